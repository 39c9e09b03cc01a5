"""How fast a bundle's network is on this machine: each way to run it, by the size of the batch.

Machines are shared and noisy. So the candidates take turns within one run, each figure is a median
over rounds, and what is compared is the ratio within a round.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from model.data.planes import PlaneBatch
from model.serving.engine import Runner
from model.serving.graph import GraphRunner, build_graph
from model.serving.served import ServedBundle, read_bundle

REFERENCE = "eager"
# Side of the matrices that the machine's own rate is measured with.
_SIDE = 1024
_SETTLE = 3


@dataclass
class EngineFigures:
    """What was measured of one candidate with one size of batch.

    Attributes:
        candidate: how the network is run.
        batch: faces in a call.
        wall_ms: of each round, the median call, ms.
        cpu_ms: of each round, processor time of this process a call, ms.
        ratio: of each round, the reference's processor time over this one's.
    """

    candidate: str
    batch: int
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return medians, and the spread of the ratio, in a form that JSON can hold."""
        cpu_ms = statistics.median(self.cpu_ms)
        return {
            "candidate": self.candidate,
            "batch": self.batch,
            "wall_ms": round(statistics.median(self.wall_ms), 2),
            "cpu_ms": round(cpu_ms, 2),
            "faces_per_cpu_s": round(self.batch / cpu_ms * 1000, 1),
            "ratio": round(statistics.median(self.ratio), 2),
            "ratio_min": round(min(self.ratio), 2),
            "ratio_max": round(max(self.ratio), 2),
        }


def bench_engine(
    folder: Path,
    batches: Sequence[int],
    rounds: int,
    calls: int,
    num_threads: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a bundle.

    Args:
        folder: of the bundle.
        batches: sizes of batches, faces.
        rounds: how often the candidates take turns.
        calls: calls of a candidate in a round.
        num_threads: CPU threads of a call.
        tell: is told what is done.

    Returns:
        `rows` (see `EngineFigures.row`), `load_s` by candidate, `worst_score` (how far the graph's
        scores are from the reference's) and `matmul_gflops`, all in a form that JSON can hold.

    Raises:
        BundleError: there is no such bundle.
    """
    served = read_bundle(folder)
    with TemporaryDirectory(prefix="livegate-bench-") as name:
        runners, load_s = _runners(served, Path(name), num_threads, tell)
        figures = [EngineFigures(each, batch) for batch in batches for each in runners]
        for turn in range(rounds):
            tell(f"round {turn + 1} of {rounds}")
            _take_turns(figures, runners, served, calls)
        everyone = _batch(served.selftest, len(served.selftest_scores))
        scores = {each: runner.run(everyone)[0] for each, runner in runners.items()}
        worst = max(float(np.abs(each - scores[REFERENCE]).max()) for each in scores.values())
    return {
        "model": served.model_id,
        "threads": num_threads,
        "rounds": rounds,
        "calls": calls,
        "rows": [each.row() for each in figures],
        "load_s": load_s,
        "worst_score": float(f"{worst:.2g}"),
        "matmul_gflops": round(_matmul_gflops(), 1),
    }


def _runners(
    served: ServedBundle, folder: Path, num_threads: int, tell: Callable[[str], None]
) -> tuple[dict[str, Runner], dict[str, float]]:
    import torch  # noqa: PLC0415 - seconds

    from model.serving.bundle import load_bundle  # noqa: PLC0415
    from model.serving.eager import EagerRunner  # noqa: PLC0415

    torch.set_num_threads(num_threads)
    tell("loading the reference")
    began_s = time.perf_counter()
    eager = EagerRunner(load_bundle(served.folder).network, torch.device("cpu"))
    load_s = {REFERENCE: time.perf_counter() - began_s}
    tell("building the graph")
    began_s, graph = time.perf_counter(), folder / "graph.onnx"
    build_graph(served, graph)
    load_s["graph, built"] = time.perf_counter() - began_s
    began_s = time.perf_counter()
    runners: dict[str, Runner] = {REFERENCE: eager, "graph": GraphRunner(graph, num_threads)}
    load_s["graph, cached"] = time.perf_counter() - began_s
    return runners, {name: round(seconds, 2) for name, seconds in load_s.items()}


def _take_turns(
    figures: Sequence[EngineFigures],
    runners: Mapping[str, Runner],
    served: ServedBundle,
    calls: int,
) -> None:
    reference_ms = 0.0
    for each in figures:
        batch = _batch(served.selftest, each.batch)
        wall_ms, cpu_ms = _measure(runners[each.candidate], batch, calls)
        if each.candidate == REFERENCE:
            reference_ms = cpu_ms
        each.wall_ms.append(wall_ms)
        each.cpu_ms.append(cpu_ms)
        each.ratio.append(reference_ms / cpu_ms)


def _measure(runner: Runner, batch: PlaneBatch, calls: int) -> tuple[float, float]:
    for _ in range(_SETTLE):
        runner.run(batch)
    wall_ms, began_s = [], time.process_time()
    for _ in range(calls):
        call_s = time.perf_counter()
        runner.run(batch)
        wall_ms.append((time.perf_counter() - call_s) * 1000)
    return statistics.median(wall_ms), (time.process_time() - began_s) * 1000 / calls


def _batch(faces: PlaneBatch, size: int) -> PlaneBatch:
    rows = np.arange(size) % len(faces.present)
    return PlaneBatch(faces.rgb[rows], faces.depth[rows], faces.ir[rows], faces.present[rows])


def _matmul_gflops() -> float:
    """Return the rate of a float32 matrix product on one thread, the best of several."""
    import torch  # noqa: PLC0415

    one, other = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    best_s = float("inf")
    for _ in range(10):
        began_s = time.process_time()
        torch.mm(one, other)
        best_s = min(best_s, time.process_time() - began_s)
    return 2 * _SIDE**3 / best_s / 1e9
