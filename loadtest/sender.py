"""One process that sends: a share of the cameras, told to start, and telling how it goes.

The parent gives it a `Task`, tells it when to start, and gets a `Tick` of it every second.
"""

import asyncio
import gc
import selectors
import signal
import time
from multiprocessing.connection import Connection

from loadtest.errors import LoadtestError
from loadtest.fleet import Fleet
from loadtest.task import Task, Tick
from workers.errors import WorkerError

_TICK_S = 1.0


def send(task: Task, parent: Connection) -> None:
    """Do a task; the parent reads ticks from the connection, and writes "stop" to end it early."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops everyone in order
    try:
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            runner.run(_send(task, parent))
    except (BrokenPipeError, EOFError, asyncio.CancelledError):
        pass  # the parent is gone
    except Exception as error:  # noqa: BLE001 - it belongs to the parent, which raises it
        is_told = isinstance(error, (LoadtestError, WorkerError))  # a line to whoever typed it
        parent.send(error if is_told else RuntimeError(f"a sender has failed: {error!r}"))


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that sleeps to the microsecond; epoll, which is usual, rounds up to 1 ms."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _send(task: Task, parent: Connection) -> None:
    fleet = Fleet(task)
    loop, sending = asyncio.get_running_loop(), asyncio.current_task()

    def told() -> None:
        fleet.stop()
        try:
            parent.recv()
        except (EOFError, ConnectionResetError):  # nobody is there to be told of anything
            loop.remove_reader(parent.fileno())
            assert sending is not None  # noqa: S101 - it is this one
            sending.cancel()

    async with fleet:
        gc.collect()
        gc.freeze()  # the stills: they need not be looked at again and again
        parent.send("ready")
        fleet.start_at(await asyncio.to_thread(parent.recv))
        begin_cpu_s = time.process_time()
        loop.add_reader(parent.fileno(), told)
        ticking = asyncio.create_task(_tick_on(fleet, parent, begin_cpu_s))
        try:
            await fleet.play(fleet.schedule(), from_s=0.0)
            await fleet.settle(task.scenario.run.patience)
        finally:
            loop.remove_reader(parent.fileno())
            ticking.cancel()
            await asyncio.wait([ticking])
    parent.send(_tick(fleet, begin_cpu_s, is_last=True))


async def _tick_on(fleet: Fleet, parent: Connection, begin_cpu_s: float) -> None:
    at_s = 0.0
    while True:
        at_s += _TICK_S
        await asyncio.sleep(max(0.0, at_s - fleet.now_s))
        parent.send(_tick(fleet, begin_cpu_s, is_last=False))


def _tick(fleet: Fleet, begin_cpu_s: float, *, is_last: bool) -> Tick:
    cpu_s = time.process_time() - begin_cpu_s
    return fleet.take().tick(fleet.book, fleet.now_s, cpu_s, fleet.num_waiting, is_last=is_last)
