"""How a peer is measured: saturated, in a closed loop; and at a rate, in an open one."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.bench.peers.clients import Client, NotThere

Frames = Iterator[tuple[str, dict[bytes, bytes]]]

_WARM_S = 1.0


@dataclass(frozen=True)
class Latencies:
    """What an open loop measured.

    Attributes:
        p50_ms: from the intended send time to the decision.
        p99_ms: the same.
        num_frames: how many were sent.
        num_failed: how many got no decision; they are in no percentile.
    """

    p50_ms: float
    p99_ms: float
    num_frames: int
    num_failed: int


async def saturated(client: Client, frames: Frames, num_waiting: int, seconds: float) -> float:
    """Return how many frames a second get their decision while `num_waiting` always wait for one.

    Raises:
        NotThere: one gets none.
    """
    num_decided = 0
    end_s = time.monotonic() + _WARM_S + seconds

    async def send() -> None:
        nonlocal num_decided
        while time.monotonic() < end_s:
            await client.decide(*next(frames))
            num_decided += 1

    sending = [asyncio.create_task(send()) for _ in range(num_waiting)]
    await asyncio.sleep(_WARM_S)
    began_s, before = time.monotonic(), num_decided
    await asyncio.sleep(seconds)
    fps = (num_decided - before) / (time.monotonic() - began_s)
    await asyncio.gather(*sending)
    return fps


async def at_rate(client: Client, frames: Frames, fps: float, seconds: float) -> Latencies:
    """Send at random times, `fps` a second on average, whatever comes back; and measure.

    Latency counts from the time at which a frame was to be sent: one that the client sends late,
    because the machine is busy, is late.
    """
    gaps, latencies_ms, num_failed = random.Random(7), [], 0  # noqa: S311 - arrivals, no secret

    async def send(intended_s: float) -> None:
        nonlocal num_failed
        try:
            await client.decide(*next(frames))
        except NotThere:
            num_failed += 1
        else:
            latencies_ms.append((time.monotonic() - intended_s) * 1000)

    sending = []
    at_s = time.monotonic()
    end_s = at_s + seconds
    while (at_s := at_s + gaps.expovariate(fps)) < end_s:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        sending.append(asyncio.create_task(send(at_s)))
    await asyncio.gather(*sending)
    ordered = sorted(latencies_ms) or [float("inf")]
    return Latencies(
        p50_ms=ordered[len(ordered) // 2],
        p99_ms=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        num_frames=len(sending),
        num_failed=num_failed,
    )
