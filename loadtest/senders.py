"""Senders as processes: started, waited for, ended."""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from loadtest.sender import send
from loadtest.target import TargetError
from loadtest.task import Task

_READY_S = 120.0


def start_sender(task: Task) -> tuple[BaseProcess, Connection]:
    """Start a sender; it says when it is ready."""
    context = multiprocessing.get_context("spawn")
    parent, child = context.Pipe()
    process = context.Process(target=send, args=(task, child), daemon=True)
    process.start()
    child.close()
    return process, parent


def wait_until_ready(process: BaseProcess, parent: Connection) -> None:
    """Return once a sender is ready.

    Raises:
        TargetError: it does not start; or what it says instead.
    """
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s and process.is_alive():
        if parent.poll(0.1):
            told = parent.recv()
            if isinstance(told, Exception):
                raise told
            return
    raise TargetError("a sender did not start: see what it printed")


async def end_senders(parents: Sequence[tuple[BaseProcess, Connection]]) -> None:
    """Wait for the end of all senders; one that does not end is ended."""
    for process, parent in parents:
        await asyncio.to_thread(process.join, 5.0)
        if process.is_alive():
            process.terminate()
            await asyncio.to_thread(process.join)
        parent.close()
