"""A run in the terminal: what happens while it goes on, and what is left to say at the end."""

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.result import Check, Result
from loadtest.run import Progress
from loadtest.validation.check import Compared

_COLOURS = {"met": "green", "missed": "red", "invalid": "yellow"}


def progress_line(progress: Progress) -> str:
    """Return one second in one line."""
    row = progress.second
    p99 = "-" if row.p99_ms is None else f"{row.p99_ms:.0f}"
    waiting = "?" if row.waiting is None else f"{row.waiting}"
    return (
        f"{row.at_s:6.0f} s  {progress.phase:9}  due {row.due_fps:7.0f}/s  "
        f"verdicts {row.verdict_fps:7.0f}/s  p99 {p99:>6} ms  waiting {waiting:>6}  "
        f"replicas {row.replicas:3}"
    )


def teller(console: Console) -> Callable[[Progress], None]:
    """Return what tells of a run as it goes on: a line a second, and each fault when it begins."""
    told = 0

    def tell(progress: Progress) -> None:
        nonlocal told
        for each in progress.faults[told:]:
            console.print(f"[bold]{each.at_s:6.1f} s  {escape(each.what)}[/]: {escape(each.event)}")
        told = len(progress.faults)
        console.print(progress_line(progress), highlight=False)

    return tell


def tell_comparison(console: Console) -> Callable[[Compared], None]:
    """Return what tells of each comparison with a real run, in a line."""

    def tell(each: Compared) -> None:
        mark = "" if each.allowed is None else " [green]yes[/]" if each.holds else " [red]no[/]"
        limit = "" if each.allowed is None else f", {each.allowed:.0%} allowed"
        console.print(
            f"{each.what:34} foretold {each.foretold:8.1f}, seen {each.seen:8.1f} {each.unit:8} "
            f"off {each.off:+.1%}{limit}{mark}",
            highlight=False,
        )

    return tell


def summarise(result: Result, console: Console) -> None:
    """Print the end of a run."""
    steady = result.distribution("steady").summary()
    account = result.account
    colour = _COLOURS[result.verdict]
    console.print(f"\n[bold]{escape(result.name)}[/]: [{colour} bold]{result.verdict}[/]")
    figures = Table(show_header=False, box=None, pad_edge=False)
    percentiles = ", ".join(
        f"{name} {steady[name]:.1f}" for name in ("p50", "p90", "p99", "p99.9", "max")
        if steady[name] is not None
    )  # fmt: skip
    figures.add_row("latency, ms", percentiles or "nothing was decided")
    figures.add_row("driver", driver_line(result))
    figures.add_row("goodput", f"{account['goodput_fps']} verdicts/s in time")
    names = ("due", "acknowledged", "dropped", "refused", "unknown", "decided", "lost", "doubled")
    figures.add_row("frames", ", ".join(f"{name} {account[name]}" for name in names))
    said = ", ".join(f"{name} {count}" for name, count in account["said"].items())
    figures.add_row("said", said or "nothing")
    console.print(figures)
    for title, checks in (("promised", result.slo), ("believed", result.checks)):
        console.print(_checks(title, checks))


def driver_line(result: Result) -> str:
    """Return what the load itself was like: how late, how much of the latency is its own."""
    lateness, added = result.distribution("lateness"), result.distribution("added")
    parts = [f"sent late: p50 {_ms(lateness.at(50))}, p99 {_ms(lateness.at(99))} ms"]
    parts.append(f"added with the line: p50 {_ms(added.at(50))}, p99 {_ms(added.at(99))} ms")
    if (cpu_us := result.environment.get("sender_us_a_frame")) is not None:
        parts.append(f"{cpu_us:g} us of processor time a frame")
    return "; ".join(parts)


def _ms(value_ms: float | None) -> str:
    return "-" if value_ms is None else f"{value_ms:.1f}"


def _checks(title: str, checks: list[Check]) -> Table:
    table = Table(title, "", "", box=None, pad_edge=False, header_style="dim")
    for each in checks:
        mark = "[green]yes[/]" if each.holds else "[red bold]no[/]"
        table.add_row(each.name, mark, escape(each.detail))
    return table
