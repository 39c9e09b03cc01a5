"""The reference engine: the self-test guards it, and what does not fit is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.planes import Planes
from model.serving.bundle import (
    SelfTestFailed,
    load_bundle,
    save_bundle,
    selftest_rows,
)
from model.serving.eager import eager_engine
from model.serving.engine import EngineError
from tests.bundles import SIZE, random_bundle
from tests.model.serving.folders import edit_weights


class TestEngine:
    def test_the_self_test_guards_the_weights(self, folder: Path) -> None:
        edit_weights(folder, lambda weights: weights["head.weight"].mul_(-40))
        with pytest.raises(SelfTestFailed, match="off by"):
            eager_engine(load_bundle(folder))

    def test_a_network_without_scores_fails_the_self_test(self, folder: Path) -> None:
        # Finite, and yet the root of a negative variance is no number.
        edit_weights(folder, lambda weights: weights["top.0.first.norm.running_var"].fill_(-9))
        with pytest.raises(SelfTestFailed, match="not a number"):
            eager_engine(load_bundle(folder))

    def test_it_gives_the_network_s_scores(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        engine = eager_engine(bundle, max_batch=3)
        rows = selftest_rows(bundle.selftest)[:3]
        prediction = engine.predict(rows)
        assert prediction.scores == pytest.approx(bundle.selftest_scores[:3], abs=1e-3)
        odds = np.log(prediction.scores / (1 - prediction.scores))
        assert prediction.evidence.sum(1) == pytest.approx(odds, abs=1e-3)
        alone = np.concatenate([engine.predict([row]).scores for row in rows])
        assert alone == pytest.approx(prediction.scores, abs=1e-4)

    @pytest.mark.parametrize("present", [("rgb",), ("depth",), ("ir",), ("rgb", "ir")])
    def test_modalities_may_be_missing(self, folder: Path, present: tuple[str, ...]) -> None:
        bundle = load_bundle(folder)
        row = selftest_rows(bundle.selftest)[0]
        planes = Planes(**{name: getattr(row, name) for name in present})
        assert set(eager_engine(bundle).predict([planes]).evidence_of(0)) == {"+".join(present)}

    def test_evidence_tells_what_the_score_rests_on(self, tmp_path: Path) -> None:
        bundle = load_bundle(save_bundle(random_bundle(fusion="evidence"), tmp_path / "additive"))
        row = selftest_rows(bundle.selftest)[0]
        whole = eager_engine(bundle).predict([row])
        told = whole.evidence_of(0)
        assert set(told) == {"rgb", "depth", "ir", "rgb+depth", "rgb+ir", "depth+ir"}
        odds = np.log(whole.scores[0] / (1 - whole.scores[0]))
        assert sum(told.values()) == pytest.approx(odds, abs=1e-3)
        lost = eager_engine(load_bundle(tmp_path / "additive")).predict([Planes(depth=row.depth)])
        assert lost.evidence_of(0) == {"depth": pytest.approx(told["depth"], abs=1e-3)}

    def test_what_does_not_fit_is_refused(self, folder: Path) -> None:
        engine = eager_engine(load_bundle(folder), max_batch=2)
        row = Planes(ir=np.zeros((SIZE, SIZE), np.uint8))
        for planes in ([], [row] * 3, [Planes(ir=np.zeros((32, 32), np.uint8))]):
            with pytest.raises(ValueError, match=r"faces make a batch|planes must be"):
                engine.predict(planes)

    def test_a_score_that_is_no_number_is_an_error(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        engine = eager_engine(bundle)
        with torch.no_grad():
            bundle.network.head.bias.fill_(torch.nan)  # type: ignore[union-attr, operator]
        with pytest.raises(EngineError, match="not a number"):
            engine.predict([Planes(ir=np.zeros((SIZE, SIZE), np.uint8))])
