"""Evaluation, calibration and ablation of networks small enough for a test."""

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loadtest.samples import load_samples
from model.data.dataset import Dataset, load_dataset, stored_px
from model.data.planes import MODALITIES, collate
from model.evaluation.calibration import CalibrationError, allowed_errors, calibrate
from model.evaluation.evaluation import as_served, evaluate, shares_when_blind
from model.evaluation.metrics import MetricError, equal_error
from model.evaluation.report import write_report
from model.serving.bundle import Bundle, find_bundle, load_bundle, save_bundle
from model.training.ablation import LATE, AblationConfig, ablate, write_table
from model.training.curves import write_curves
from model.training.training import Epoch, TrainingConfig, train
from tests.model.pictures import training_config, write_set
from workers.replica.decode import decode
from workers.wire.frame import Frame


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    return replace(training_config(tmp_path_factory.mktemp("set")), epochs=6)


@pytest.fixture(scope="module")
def bundle(config: TrainingConfig) -> Bundle:
    list(train(config))
    return load_bundle(config.bundle)


@pytest.fixture(scope="module")
def dataset(config: TrainingConfig) -> Dataset:
    return load_dataset(write_set(config.train.parent, "test", 80, 5), 112)


def sample_faces() -> Dataset:
    """Return bona fide faces of the sample set, as a data set stores them."""
    frames = [frame for each in load_samples() if each.is_bona_fide for frame in each.frames]
    faces = [
        decode(Frame("-", 0, 0, frame.planes, face_box=frame.face_box), stored_px(112), 0.2)
        for frame in frames
    ]
    count = len(faces)
    names, label = tuple(map(str, range(count))), np.ones(count, np.int64)
    return Dataset(112, names, names, collate(faces), label, ("bona_fide",) * count)


class TestEvaluation:
    def test_rates_are_told_with_what_they_are_of(self, bundle: Bundle, dataset: Dataset) -> None:
        figures = evaluate(bundle, dataset).figures
        assert figures["samples"] == {"attack": 40, "bona_fide": 40}
        assert len(figures["subsets"]) == 7
        whole = figures["subsets"]["rgb+depth+ir"]
        assert whole["BPCER"]["trials"] == 40
        low, high = whole["BPCER"]["interval"]
        assert low <= whole["BPCER"]["rate"] <= high
        assert "it takes 30000" in whole["TPR@FPR"]["1e-04"]
        json.dumps(figures)

    def test_each_frame_gets_one_outcome(self, bundle: Bundle, dataset: Dataset) -> None:
        evaluation = evaluate(bundle, dataset)
        table = as_served(evaluation)
        assert {name: sum(row.values()) for name, row in table.items()} == {
            "attack": 40,
            "bona_fide": 40,
        }
        refused = evaluation.figures["non_response"]
        assert table["attack"]["no_decision"] == refused["APNRR"]["count"]
        assert table["bona_fide"]["no_decision"] == refused["BPNRR"]["count"]

    def test_shares_are_told_for_each_blind_plane(self, bundle: Bundle, dataset: Dataset) -> None:
        shares = shares_when_blind(bundle.network, dataset)
        assert list(shares) == ["as they are", "rgb blind", "depth blind", "ir blind"]
        assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in shares.values())

    def test_the_shipped_bundle_leans_less_on_a_plane_that_is_blind(self) -> None:
        shipped = load_bundle(find_bundle("rendered-small"))
        shares = shares_when_blind(shipped.network, sample_faces())
        for column, name in enumerate(MODALITIES):
            seen, blind = shares["as they are"][column], shares[f"{name} blind"][column]
            assert blind < 0.5 * seen

    def test_one_class_alone_can_not_be_judged(self, bundle: Bundle, dataset: Dataset) -> None:
        attacks = replace(dataset, label=np.zeros_like(dataset.label), species=("attack",) * 80)
        with pytest.raises(MetricError, match="a class is empty"):
            evaluate(bundle, attacks)

    def test_labels_of_the_wrong_polarity_are_refused(
        self, bundle: Bundle, dataset: Dataset
    ) -> None:
        swapped = replace(
            dataset,
            label=1 - dataset.label,
            species=tuple("attack" if each else "bona_fide" for each in dataset.label),
        )
        with pytest.raises(MetricError, match="the labels are swapped; 1 must be bona fide"):
            evaluate(bundle, swapped)
        with pytest.raises(MetricError, match="the labels are swapped"):
            calibrate(bundle, swapped, "apcer", 0.15)

    def test_a_score_that_is_no_number_is_named(self, bundle: Bundle, dataset: Dataset) -> None:
        network = copy.deepcopy(bundle.network)
        with torch.no_grad():
            next(network.parameters()).fill_(float("nan"))
        with pytest.raises(MetricError, match=r"test_list.txt:1: test-0_rgb.jpg: .* score is nan"):
            evaluate(replace(bundle, network=network), dataset)

    def test_a_report_is_whole(self, bundle: Bundle, dataset: Dataset, tmp_path: Path) -> None:
        folder = write_report(evaluate(bundle, dataset), tmp_path / "report", "test <list>")
        for name in ("det", "histograms", "confusion", "most-wrong"):
            with Image.open(folder / f"{name}.png") as picture:
                assert min(picture.size) > 200
        page = (folder / "report.html").read_text()
        assert "test &lt;list&gt;" in page
        assert page.count("data:image/png;base64") == 4
        with (folder / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 80
        assert rows[0]["file"] == dataset.files[0]
        assert 0 <= float(rows[0]["rgb+depth+ir"]) <= 1
        with pytest.raises(FileExistsError):
            write_report(evaluate(bundle, dataset), folder, "again")

    def test_curves(self, tmp_path: Path) -> None:
        epochs = [Epoch(number, 1 / number, 1 / number, 0.1, 0.2, []) for number in (1, 2, 3)]
        write_curves(epochs, tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.size[0] > 500


class TestCalibration:
    def test_thresholds_meet_the_target_with_confidence(
        self, bundle: Bundle, dataset: Dataset, tmp_path: Path
    ) -> None:
        made = calibrate(bundle, dataset, "apcer", 0.15)
        found = made.thresholds["rgb+depth+ir"].calibration
        assert found["apcer_upper"] <= 0.15
        assert found["rule"] == "apcer at most 0.15 with 95% confidence"
        again = load_bundle(save_bundle(replace(made, name="v2"), tmp_path / "v2"))
        assert again.thresholds == made.thresholds
        assert again.weights_sha256 == bundle.weights_sha256

    def test_bona_fide_can_be_the_target(self, bundle: Bundle, dataset: Dataset) -> None:
        made = calibrate(bundle, dataset, "bpcer", 0.15)
        assert made.thresholds["rgb+depth+ir"].calibration["bpcer_upper"] <= 0.15

    @pytest.mark.parametrize("target", ["apcer", "bpcer"])
    def test_a_sample_that_is_too_small_is_refused(
        self, bundle: Bundle, dataset: Dataset, target: str
    ) -> None:
        with pytest.raises(CalibrationError, match="it takes 299"):
            calibrate(bundle, dataset, target, 0.01)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("trials", "allowed"), [(58, -1), (59, 0), (92, 0), (93, 1)])
    def test_how_many_errors_five_per_cent_allow(self, trials: int, allowed: int) -> None:
        # The known sample sizes of attribute testing at 95 % confidence: 59 with none, 93 with one.
        assert allowed_errors(trials, 0.05, 0.95) == allowed

    def test_a_network_that_can_not_reach_it_is_refused(
        self, bundle: Bundle, dataset: Dataset
    ) -> None:
        rng = np.random.default_rng(0)
        mixed = replace(dataset, label=rng.permutation(dataset.label))
        species = tuple("bona_fide" if each else "attack" for each in mixed.label)
        with pytest.raises(CalibrationError, match="does not fit"):
            calibrate(bundle, replace(mixed, species=species), "apcer", 0.15)

    def test_attacks_that_score_exactly_one_are_not_let_through(
        self, bundle: Bundle, dataset: Dataset
    ) -> None:
        network = copy.deepcopy(bundle.network)
        last = [part for part in network.modules() if isinstance(part, torch.nn.Linear)][-1]
        with torch.no_grad():
            last.bias.copy_(torch.tensor([-1000.0, 1000.0]))
        with pytest.raises(CalibrationError, match=r"100.0% with all modalities"):
            calibrate(replace(bundle, network=network), dataset, "apcer", 0.15)


def test_an_ablation_goes_on_where_it_stood(config: TrainingConfig, tmp_path: Path) -> None:
    recipe = replace(config, epochs=10)
    plan = AblationConfig(
        recipe, recipe.val, tmp_path / "runs", ("rgb", "depth", "ir", "mmfcnn-abc-batch"), (0,)
    )
    first = replace(plan, variants=("rgb", "depth"))
    assert sorted(ablate(first)) == ["depth-0", "rgb-0"]
    assert sorted(ablate(plan)) == ["ir-0", "mmfcnn-abc-batch-0"]
    rows = {row["variant"]: row for row in write_table(plan)}
    assert list(rows) == ["rgb", "depth", "ir", "mmfcnn-abc-batch", LATE]
    each = [rows[name]["parameters"]["mean"] for name in ("rgb", "depth", "ir")]
    assert rows[LATE]["parameters"]["mean"] == sum(each)
    assert "ACER without-ir" in rows["mmfcnn-abc-batch"]
    rest = [np.load(plan.folder / f"{name}-0.npz") for name in ("rgb", "depth")]
    mean = sum(1 / (1 + np.exp(-each["all"].astype(np.float64))) for each in rest) / 2
    rate, _ = equal_error(mean, rest[0]["label"])
    assert rows[LATE]["EER without-ir"]["mean"] == pytest.approx(rate, abs=1e-6)
    table = (plan.folder / "table.md").read_text()
    assert table.count("\n") == 2 + 5
    with pytest.raises(FileExistsError, match=r"another recipe \(epochs\)"):
        list(ablate(replace(plan, recipe=replace(recipe, epochs=11))))
    with pytest.raises(ValueError, match="no variant vit"):
        replace(plan, variants=("vit",))
