"""A shadow: a candidate judges a share of the frames once they are decided, unseen by doors.

It takes nothing from those who wait: frames are shown to it only while this replica has none in
hand, one at a time, and it runs in a process of its own at the lowest priority. What it has no time
for is dropped and counted. Frames wait for it no longer than a frame may wait for its decision.
"""

import asyncio
import json
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from workers.replica.in_flight import Decided
from workers.replica.models import is_in_share
from workers.replica.shadow_process import LENGTH_BYTES
from workers.replica.shadow_tally import ShadowTally
from workers.wire.decision import Decision, Reason

_COMMAND = (sys.executable, "-m", "workers.replica.shadow_process")
_MAX_WAITING = 32
_IDLE_POLL_S = 0.02
_RESTART_S = 10.0
# What a candidate might decide otherwise; nothing else depends on a bundle.
_COMPARABLE = frozenset({None, Reason.LOW_QUALITY, Reason.MODALITY_MISSING, Reason.UNDECODABLE})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Shown:
    packed: bytes
    decision: Decision
    at_s: float


class Shadow:
    """The shadow of one replica, with one candidate."""

    def __init__(
        self,
        bundle: str,
        model: str,
        share: float,
        tally: ShadowTally,
        is_idle: Callable[[], bool],
        patience_s: float,
    ) -> None:
        """Start nothing yet.

        Args:
            bundle: the candidate, see `workers.replica.bundles.resolve_bundle`.
            model: its model id.
            share: of the frames, [0, 1].
            tally: counts what comes of them.
            is_idle: whether the replica has no frame in hand.
            patience_s: how long a frame may wait.
        """
        self.model = model
        self.runs_on = ""
        self._bundle = bundle
        self._share = share
        self._tally = tally
        self._is_idle = is_idle
        self._patience_s = patience_s
        self._waiting: deque[_Shown] = deque()
        self._has_some = asyncio.Event()
        self._running = asyncio.create_task(self._run())

    def show(self, decided: Decided) -> None:
        """Take a frame, with what was decided on it, if it is in the share; never waits."""
        decision, frame = decided.decision, decided.frame
        packed = frame.fields.get(b"f")
        if frame.proof is None or frame.frame is None or packed is None:
            return
        if decision.reason not in _COMPARABLE or decision.model == self.model:
            return
        if not is_in_share(f"{decision.camera_id}/{decision.seq}", self._share):
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._drop(self._waiting.popleft(), "busy")
        self._waiting.append(_Shown(bytes(packed), decision, time.monotonic()))
        self._has_some.set()

    async def aclose(self) -> None:
        """End it, and its process."""
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - whatever it is, no decision depends on it
                _log.error("the shadow has ended, and begins anew: %s", error)
            await asyncio.sleep(_RESTART_S)
            self._forget_old()

    async def _work(self) -> None:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            self._bundle,
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
        )
        try:
            started = await _verdict(process)
            if "error" in started:
                raise RuntimeError(started["error"])
            self.runs_on = started["runs_on"]
            while True:
                shown = await self._next()
                try:
                    verdict = await _ask(process, shown.packed)
                except asyncio.CancelledError:  # whoever ends it does not wait for this frame
                    self._drop(shown, "busy")
                    raise
                except Exception:
                    self._drop(shown, "failed")
                    raise
                self._tally.compared(shown.decision, self.model, verdict)
        finally:
            self.runs_on = ""
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _next(self) -> _Shown:
        """Wait for a frame that is not too old, and until the replica has time for it."""
        while True:
            if not self._waiting:
                self._has_some.clear()
                await self._has_some.wait()
            while self._waiting and not self._is_idle():
                self._forget_old()
                await asyncio.sleep(_IDLE_POLL_S)
            self._forget_old()
            if self._waiting:
                return self._waiting.popleft()

    def _forget_old(self) -> None:
        oldest_s = time.monotonic() - self._patience_s
        while self._waiting and self._waiting[0].at_s < oldest_s:
            self._drop(self._waiting.popleft(), "busy")

    def _drop(self, shown: _Shown, reason: str) -> None:
        self._tally.dropped(shown.decision.model, self.model, reason)


async def _ask(process: Process, packed: bytes) -> dict[str, Any]:
    assert process.stdin is not None  # noqa: S101 - a pipe
    process.stdin.write(len(packed).to_bytes(LENGTH_BYTES) + packed)
    await process.stdin.drain()
    return await _verdict(process)


async def _verdict(process: Process) -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101 - a pipe
    try:
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
        verdict: dict[str, Any] = json.loads(await process.stdout.readexactly(length))
    except asyncio.IncompleteReadError as error:
        raise RuntimeError("its process has ended") from error
    return verdict
