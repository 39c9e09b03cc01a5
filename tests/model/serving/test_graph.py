"""The exported graph: the network's own scores, built once, and without torch where it runs."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.data.planes import PlaneBatch, Planes
from model.network.config import NetworkConfig
from model.network.peers import build_network
from model.serving import graph
from model.serving.bundle import load_bundle, save_bundle
from model.serving.eager import EagerRunner, eager_engine
from model.serving.engine import open_engine
from model.serving.graph import GraphError, GraphRunner, graph_key, graph_runner
from model.serving.served import read_bundle
from tests.bundles import SIZE, random_bundle, random_planes, stored


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path / "cache" / "livegate" / "graphs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_bundle(random_bundle(), tmp_path / "bundle")


def some_planes(count: int) -> PlaneBatch:
    """Return faces of which some lack a modality, and some depth has holes."""
    planes = random_planes(count, seed=3)
    planes.depth[:, 10:30, 20:40] = 0
    planes.present[1::3, 1] = False
    planes.present[2::3, 0] = False
    return planes


@pytest.mark.parametrize("fusion", ["multi", "evidence"])
def test_it_gives_the_networks_scores(tmp_path: Path, cache: Path, fusion: Any) -> None:
    torch.manual_seed(4)
    network = build_network(NetworkConfig(depth=18, width=0.125, size=SIZE, fusion=fusion)).eval()
    made = replace(random_bundle(), network=network)
    with torch.inference_mode():
        scores = network(stored(made.selftest)).logits.softmax(1)[:, 1].numpy()
    thresholds = {
        key: replace(each, value=float(np.median(scores))) for key, each in made.thresholds.items()
    }
    made = replace(made, selftest_scores=scores, thresholds=thresholds)
    saved = save_bundle(made, tmp_path / "bundle")
    run = graph_runner(read_bundle(saved), 1)
    eager = EagerRunner(load_bundle(saved).network, torch.device("cpu"))
    for count in (1, 2, 7):
        batch = some_planes(count)
        for found, wanted in zip(run.run(batch), eager.run(batch), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_an_engine_needs_no_torch_where_it_runs(folder: Path, cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from model.serving.engine import open_engine;"
        "engine = open_engine(Path(sys.argv[1]));"
        "print(engine.runs_on, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["graph", "on", "cpu", "False"]
    engine = open_engine(folder)
    faces = [Planes(ir=np.full((SIZE, SIZE), 90, np.uint8))]
    wanted = eager_engine(load_bundle(folder)).predict(faces)
    np.testing.assert_allclose(engine.predict(faces).scores, wanted.scores, atol=1e-3)
    assert engine.model_id == load_bundle(folder).model_id
    assert engine.threshold_for(("ir",)) is not None


def test_several_who_need_it_at_once_build_it_once(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds, build = [], graph.build_graph

    def counted(*args: Any) -> None:
        builds.append(args)
        build(*args)

    monkeypatch.setattr(graph, "build_graph", counted)
    served = read_bundle(folder)
    runners: list[GraphRunner] = []
    starters = [
        threading.Thread(target=lambda: runners.append(graph_runner(served, 1))) for _ in range(4)
    ]
    for each in starters:
        each.start()
    for each in starters:
        each.join()
    assert (len(builds), len(runners)) == (1, 4)
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".onnx"]


def test_it_is_kept_by_what_it_is_made_of(folder: Path, tmp_path: Path) -> None:
    other = save_bundle(random_bundle("another"), tmp_path / "other")
    keys = [graph_key(read_bundle(each)) for each in (folder, folder, other)]
    assert keys[0] == keys[1] != keys[2]


def test_where_nothing_can_be_kept_it_runs_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert open_engine(folder).runs_on == "graph on cpu"


@pytest.mark.parametrize("broken", ["runtime", "build"])
def test_without_it_the_network_runs_as_it_was_trained_and_the_log_says_so(
    folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    if broken == "runtime":
        cache.mkdir(parents=True)
        (cache / f"{graph_key(read_bundle(folder))}.onnx").write_bytes(b"no graph")
    else:
        monkeypatch.setattr(sys, "executable", "/bin/false")
    engine = open_engine(folder)
    assert engine.runs_on == "eager on cpu"
    assert "runs slower" in caplog.text
    with pytest.raises(GraphError):
        graph_runner(read_bundle(folder), 1)
