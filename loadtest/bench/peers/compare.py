"""`livegate bench peers`: the same bundle, engine and frames behind each peer, on the same cores.

All peers run all the time, and take turns; what one takes while another is measured is told as the
idle share. Compare within one run: machines are shared and noisy.
"""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtest.bench.material import BEST, encoded, key_file, sample_frames, signed
from loadtest.bench.peers.clients import HttpClient, LivegateClient, LoopClient, NotThere
from loadtest.bench.peers.judging import SETTINGS
from loadtest.bench.peers.process import Peer, started, wait_for
from loadtest.bench.peers.runs import Frames, at_rate, saturated
from loadtest.errors import LoadtestError
from workers.settings import StreamSettings, WorkerSettings

OURS = "livegate"
_LOAD = 0.7
_IDLE_S = 3.0


class PeersError(LoadtestError):
    """A peer does not do what it should; the message says which, and where its log is."""


@dataclass(frozen=True)
class Turns:
    """How the peers take turns.

    Attributes:
        batch: largest micro-batch: four of them wait when a peer is saturated.
        rounds: how often each is measured, at each of the two loads.
        seconds: of each turn.
    """

    batch: int
    rounds: int
    seconds: float


@dataclass
class Figures:
    """What was measured of one peer.

    Attributes:
        name: of the peer.
        ready_s: from its start to its first decision.
        fps: of each round, frames a second when saturated.
        p50_ms: of each round at the common rate.
        p99_ms: the same.
        num_failed: frames without a decision, of all rounds.
    """

    name: str
    ready_s: float = 0.0
    fps: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    num_failed: int = 0

    def row(self, ours: "Figures") -> dict[str, Any]:
        """Return medians, and those of ours against them, within each round."""
        ratios = [one / other for one, other in zip(ours.fps, self.fps, strict=True)]
        return {
            "peer": self.name,
            "ready_s": round(self.ready_s, 1),
            "fps": round(statistics.median(self.fps), 1),
            "fps_min": round(min(self.fps), 1),
            "fps_max": round(max(self.fps), 1),
            "p50_ms": round(statistics.median(self.p50_ms), 1),
            "p99_ms": round(statistics.median(self.p99_ms), 1),
            "failed": self.num_failed,
            "fps_ratio": round(statistics.median(ratios), 2),
            "p50_ratio": _ratio(ours.p50_ms, self.p50_ms),
            "p99_ratio": _ratio(ours.p99_ms, self.p99_ms),
        }


def peers_of(
    settings: WorkerSettings, ports: Sequence[int], for_ray: Mapping[str, str]
) -> list[Peer]:
    """Return all peers, ours first.

    Args:
        settings: what all of them judge with, and the server of those that need one.
        ports: three that are free.
        for_ray: environment of the process that starts Ray.
    """
    told, url = settings.model_dump_json(), settings.stream.url
    common = {SETTINGS: told, "CUDA_VISIBLE_DEVICES": ""}
    mosec, lit, serve = ports
    package = "loadtest.bench.peers"
    return [
        Peer(
            OURS,
            ("-m", "loadtest.replica", told, "bench"),
            lambda: LivegateClient(url),
            common,
        ),
        Peer(
            "redis-py loop",
            ("-m", f"{package}.loop_peer", url),
            lambda: LoopClient(url),
            common,
        ),
        Peer(
            "Mosec",
            ("-m", f"{package}.mosec_peer"),
            lambda: HttpClient(f"http://127.0.0.1:{mosec}/inference"),
            {**common, "MOSEC_PORT": str(mosec), "MOSEC_ADDRESS": "127.0.0.1"},
        ),
        Peer(
            "LitServe",
            ("-m", f"{package}.litserve_peer", str(lit)),
            lambda: HttpClient(f"http://127.0.0.1:{lit}/predict"),
            common,
        ),
        Peer(
            "Ray Serve HTTP",
            ("-m", f"{package}.serve_peer", str(serve)),
            lambda: HttpClient(f"http://127.0.0.1:{serve}/"),
            {**common, **for_ray},
        ),
    ]


async def compare(
    peers: Sequence[Peer],
    frames: Frames,
    turns: Turns,
    folder: Path,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Measure all peers.

    Args:
        peers: ours first.
        frames: to send, each once.
        turns: how the peers take them.
        folder: for the peers' logs.
        tell: is told what is done.

    Returns:
        `rows` (see `Figures.row`), the common `rate_fps` and the `idle_share` of the cores that all
        peers take while they have nothing to do.

    Raises:
        PeersError: a peer does not answer.
    """
    figures = [Figures(peer.name) for peer in peers]
    with ExitStack() as stack:
        for peer, of in zip(peers, figures, strict=True):
            tell(f"starting {peer.name}")
            log = stack.enter_context(started(peer, folder))
            try:
                of.ready_s = await wait_for(peer, frames)
            except NotThere as error:
                raise PeersError(f"{peer.name}: {error}; its log: {log}") from error
        idle_share = await _idle_share()
        for turn in range(turns.rounds):
            tell(f"saturated, round {turn + 1} of {turns.rounds}")
            for peer, of in zip(peers, figures, strict=True):
                async with peer.client() as client:
                    of.fps.append(await saturated(client, frames, 4 * turns.batch, turns.seconds))
        rate_fps = _LOAD * min(statistics.median(of.fps) for of in figures)
        for turn in range(turns.rounds):
            tell(f"at {rate_fps:.0f} frames/s, round {turn + 1} of {turns.rounds}")
            for peer, of in zip(peers, figures, strict=True):
                async with peer.client() as client:
                    seen = await at_rate(client, frames, rate_fps, turns.seconds)
                of.p50_ms.append(seen.p50_ms)
                of.p99_ms.append(seen.p99_ms)
                of.num_failed += seen.num_failed
    return {
        **asdict(turns),
        "rate_fps": round(rate_fps, 1),
        "idle_share": round(idle_share, 3),
        "rows": [each.row(figures[0]) for each in figures],
    }


def common_settings(url: str, bundle: str, batch: int, folder: Path) -> WorkerSettings:
    """Return what all peers judge with: one partition, the bench's cameras, no deadline to meet.

    Args:
        url: of a server that nobody else uses.
        bundle: folder or name.
        batch: largest micro-batch.
        folder: for the key file.
    """
    key_path = folder / "keys.json"
    key_path.write_text(json.dumps(key_file()))
    key_path.chmod(0o600)
    return WorkerSettings(
        stream=StreamSettings(url=url, partitions=1),
        camera_keys=key_path,
        bundle=bundle,
        max_batch=batch,
        deadline_ms=600_000,
        max_camera_fps=100_000,
    )


def bench_peers(
    peers: Sequence[Peer], turns: Turns, folder: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure all peers with frames of the sample set; see `compare`.

    Raises:
        PeersError: a peer does not answer.
    """
    samples = sample_frames(96)
    frames = signed(samples, encoded(samples, BEST), 1 << 30)
    return asyncio.run(compare(peers, frames, turns, folder, tell))


async def _idle_share() -> float:
    before, began_s = _busy_s(), time.monotonic()
    await asyncio.sleep(_IDLE_S)
    return (_busy_s() - before) / (time.monotonic() - began_s) / (os.cpu_count() or 1)


def _busy_s() -> float:
    """Return what all processes of this machine have taken so far, s."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    ticks = sum(map(int, fields)) - int(fields[3]) - int(fields[4])  # but for idle and iowait
    return ticks / os.sysconf("SC_CLK_TCK")


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return round(statistics.median(ratios), 2)
