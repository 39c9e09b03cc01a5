"""Progress of long work on the terminal, with the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

# Called with the amount of work done since the last call, in the unit of the work's total.
Advance = Callable[[float], None]


def ignore(amount: float) -> None:
    """Show nothing."""


@contextmanager
def shown(label: str, total: float) -> Iterator[Advance]:
    """Yield a function that advances a bar on standard error; a no-op where that is no terminal.

    Args:
        label: what is being done.
        total: amount of work, in any unit.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(label, total=total)
        yield lambda amount: bars.advance(task, amount)
