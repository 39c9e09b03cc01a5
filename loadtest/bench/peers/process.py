"""A peer's process: started, waited for, and ended with all that it started itself."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.peers.clients import Client, NotThere

_READY_S = 180.0
_POLL_S = 0.05
_END_S = 15.0


@dataclass(frozen=True)
class Peer:
    """One way to serve the bundle.

    Attributes:
        name: for people.
        command: what runs it, after the interpreter.
        client: makes what sends it frames.
        environment: what it needs beside this process's own.
    """

    name: str
    command: tuple[str, ...]
    client: Callable[[], Client]
    environment: Mapping[str, str]


@contextmanager
def started(peer: Peer, folder: Path) -> Iterator[Path]:
    """Run a peer while the block runs; yields where its log is."""
    path = folder / f"{peer.name.replace(' ', '-')}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, *peer.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **peer.environment},
            start_new_session=True,
        )
    try:
        yield path
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def wait_for(peer: Peer, frames: Iterator[tuple[str, dict[bytes, bytes]]]) -> float:
    """Return after how many seconds a peer that was just started made its first decision.

    Raises:
        NotThere: it made none.
    """
    began_s = time.monotonic()
    async with peer.client() as client:
        while True:
            try:
                await client.decide(*next(frames))
            except NotThere:
                if time.monotonic() - began_s > _READY_S:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                return time.monotonic() - began_s
