"""Perturbations on a bundle that knows nothing but depth: what it must and must not notice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.planes import crop_planes
from model.data.readers import read_samples
from model.data.tampering import Face
from model.evaluation.metrics import MetricError, Rate
from model.evaluation.perturbation import (
    PERTURBATIONS,
    Outcome,
    findings,
    outcomes,
    read_faces,
    score_planes,
    table,
)
from model.network.config import NetworkConfig
from model.network.peers import build_network
from model.serving.bundle import Bundle, Threshold
from tests.bundles import SIZE, random_bundle
from tests.model.pictures import write_set


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[Face]:
    path = write_set(tmp_path_factory.mktemp("set"), "some", 60, 9)
    return read_faces(read_samples(path), 20)


@pytest.fixture(scope="module")
def bundle(faces: list[Face]) -> Bundle:
    """Return a bundle that looks at depth alone, and accepts two in three bona fide faces."""
    torch.manual_seed(1)
    network = build_network(NetworkConfig(views=("depth",), depth=18, width=0.125, size=SIZE))
    made = replace(random_bundle(), network=network.eval())
    planes = [
        crop_planes(face.rgb, face.depth, face.ir, face.box, SIZE, made.crop_margin)
        for face in faces
        if face.is_bona_fide
    ]
    middle = float(np.quantile(score_planes(made, planes), 1 / 3))
    return replace(made, thresholds={"rgb+depth+ir": Threshold(middle)})


def test_equal_parts_are_read(faces: list[Face]) -> None:
    assert sorted({face.species for face in faces}) == ["attack", "bona_fide"]
    assert len(faces) == 40
    assert faces[0].box == pytest.approx((124 / 7, 124 / 7, 124 * 5 / 7, 124 * 5 / 7))


def test_a_bundle_that_sees_depth_alone_is_told_so(bundle: Bundle, faces: list[Face]) -> None:
    found = outcomes(bundle, faces, PERTURBATIONS)
    before = found["none"]
    assert before.bpcer is not None
    assert 0 < before.bpcer.value < 1
    # It does not look at colour: whatever is done to it passes as before.
    for name in ("rgb is noise", "rgb of another presentation", "rgb shifted by a quarter"):
        assert found[name].bpcer is None
        assert found[name].apcer_of["bona_fide"].value == pytest.approx(1 - before.bpcer.value)
    told = findings(found, PERTURBATIONS)
    assert any(each.startswith("rgb is noise: ") for each in told)
    assert any(each.startswith("ir is rgb turned grey: ") for each in told)
    # There are no holes to fill, so nothing moves.
    assert found["all holes filled"] == before
    assert not any(each.startswith("all holes filled") for each in told)
    assert len(table(found).splitlines()) == 2 + len(PERTURBATIONS)


def test_findings_are_what_exceeds_a_limit() -> None:
    def outcome(passed: int, turned: int, bpcer: int | None) -> Outcome:
        rate = None if bpcer is None else Rate(bpcer, 1000)
        return Outcome(rate, {"phone": Rate(passed, 1000)}, Rate(turned, 1000))

    holes, box, noise = (PERTURBATIONS[at] for at in (0, 4, 6))
    quiet = {
        "none": outcome(20, 0, 30),
        holes.name: outcome(29, 500, 21),
        box.name: outcome(500, 9, 500),
        noise.name: outcome(49, 49, None),
    }
    assert findings(quiet, (holes, box, noise)) == []
    loud = {
        "none": outcome(20, 0, 30),
        holes.name: outcome(31, 0, 19),
        box.name: outcome(20, 11, 30),
        noise.name: outcome(51, 51, None),
    }
    told = findings(loud, (holes, box, noise))
    assert [each.split(": ")[0] for each in told] == [holes.name] * 2 + [box.name, noise.name]


def test_the_same_seed_gives_the_same_outcome(bundle: Bundle, faces: list[Face]) -> None:
    some = PERTURBATIONS[2:6]
    first, second = (outcomes(bundle, faces, some, seed=3) for _ in range(2))
    assert first == second


def test_what_can_not_be_judged_is_refused(bundle: Bundle, faces: list[Face]) -> None:
    with pytest.raises(MetricError, match="threshold for rgb"):
        outcomes(replace(bundle, thresholds={"rgb": Threshold(0.5)}), faces, ())
    with pytest.raises(MetricError, match="bona fide and attack"):
        outcomes(bundle, [face for face in faces if face.is_bona_fide], ())
    assert np.isfinite([face.depth.mean() for face in faces]).all()
