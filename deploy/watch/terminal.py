"""What `livegate decisions` and `livegate status` show of a running deployment."""

import asyncio
import itertools
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.local.home import Address
from deploy.local.signals import stop_signals
from workers.client.door import entries, read_entry
from workers.stream.backlog import read_backlog
from workers.stream.connection import Servers, connect
from workers.wire import keys
from workers.wire.decision import Decision
from workers.wire.presentation import KIND, PresentationVerdict

_Told = Decision | PresentationVerdict


def show_decisions(
    address: Address, camera: str | None, *, last: int, follow_on: bool, as_json: bool
) -> None:
    """Print the last decisions, oldest first, then new ones if wanted."""
    show = _print_json if as_json else _line_printer()
    asyncio.run(_show_decisions(address, camera, last, follow_on, show))


def show_status(address: Address, *, as_json: bool) -> None:
    """Print the backlog of each partition, and what a replica says of itself."""
    figures = asyncio.run(_figures(address))
    replica = _replica(address.http_url)
    if as_json:
        Console(soft_wrap=True).print_json(json.dumps({"partitions": figures, **replica}))
        return
    table = Table("partition", "waiting", "pending", "oldest ms", "added", title="frames")
    for row in figures:
        cells = ("partition", "waiting", "pending", "oldest_age_ms", "added")
        table.add_row(*(str(row[cell]) for cell in cells))
    console = Console()
    console.print(table)
    if "replica" in replica:
        told = Table("replica that answered", "", title=str(replica["model"]))
        for name, value in replica["replica"].items():
            told.add_row(name, str(value))
        console.print(told)
    elif replica:
        console.print(f"no replica answers: {replica['http_error']}", soft_wrap=True)


async def _show_decisions(
    address: Address,
    camera: str | None,
    last: int,
    follow_on: bool,
    show: Callable[[_Told], None],
) -> None:
    client = connect(address.redis_url, cluster=address.cluster, timeout_s=5.0)
    try:
        after: dict[str, str] = {}
        past: list[_Told] = []
        for name in _names(address, camera):
            rows: Any = await client.execute(
                name, "XREVRANGE", name, "+", "-", "COUNT", max(1, last)
            )
            told = [read_entry(row.decode(), fields) for row, fields in rows]
            past += [each for each in told if each is not None]
            after[name] = rows[0][0].decode() if rows else "0"
        past.sort(key=lambda each: each.decided_at_ms)
        for each in past[len(past) - min(last, len(past)) :]:
            show(each)
        if follow_on:
            async for each in _new(client, after):
                show(each)
    finally:
        await client.aclose()


async def _new(client: Servers, after: dict[str, str]) -> AsyncIterator[_Told]:
    stop = asyncio.Event()
    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stream = entries(client, after)
    stopped = asyncio.ensure_future(stop.wait())
    while True:
        coming = asyncio.ensure_future(anext(stream))
        await asyncio.wait([coming, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            return
        if (told := read_entry(*coming.result())) is not None:
            yield told


def _names(address: Address, camera: str | None) -> list[str]:
    if camera is None:
        return [keys.decisions(partition) for partition in range(address.partitions)]
    partition = keys.partition_of(camera, address.partitions)
    return [keys.camera_decisions(partition, camera)]


async def _figures(address: Address) -> list[dict[str, int]]:
    client = connect(address.redis_url, cluster=address.cluster)
    try:
        backlog = await read_backlog(client, range(address.partitions))
    finally:
        await client.aclose()
    return [
        {
            "partition": partition,
            "waiting": each.waiting,
            "pending": each.pending,
            "oldest_age_ms": each.oldest_age_ms,
            "added": each.added,
        }
        for partition, each in enumerate(backlog)
    ]


def _replica(http_url: str) -> dict[str, Any]:
    """Return what a replica says of itself, or why none does; nothing if there is no HTTP."""
    if not http_url:
        return {}
    url = f"{http_url}/v1/status"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own URL
            status: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        return {"http_error": f"{url}: {error}"}
    return {"model": status["model"], "replica": status["replica"]}


def _print_json(told: _Told) -> None:
    kind = "frame" if isinstance(told, Decision) else KIND
    line = json.dumps({"kind": kind, **asdict(told)})
    print(line, flush=True)  # noqa: T201 - the output of the command


def _line_printer() -> Callable[[_Told], None]:
    console = Console(highlight=False, soft_wrap=True)
    style = {"bona_fide": "green", "attack": "red", "no_decision": "yellow"}
    serial = itertools.count()

    def show(told: _Told) -> None:
        if next(serial) == 0:
            console.print(f"{'camera':<16} {'seq':<17} {'outcome':<17} score  total ms")
        if isinstance(told, Decision):
            score = "    -" if told.score is None else f"{told.score:.3f}"
            rest = f"{score}  {told.timing_ms.get('total', 0):8.1f}"
        else:
            rest = f"presentation {escape(told.presentation_id)}"
        console.print(
            f"{told.camera_id or '?':<16} {told.seq or '?':<17} "
            f"[{style[told.outcome]}]{told.reason or told.outcome:<17}[/] {rest}"
        )

    return show
