"""Evaluation and calibration of a network small enough for a test."""

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.data.dataset import Dataset, load_dataset
from model.data.planes import MODALITIES
from model.errors import SettingError
from model.evaluation.calibration import CalibrationError, allowed_errors, calibrate
from model.evaluation.evaluation import as_served, evaluate, evidence_when_blind, named_first
from model.evaluation.metrics import MetricError
from model.evaluation.report import probit, write_report
from model.evaluation.scoring import DepthKindMismatch
from model.serving.bundle import Bundle, load_bundle, save_bundle
from model.training.recipe import TrainingConfig
from tests.model.pictures import learned_bundle, training_config, write_set


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    return training_config(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def bundle(config: TrainingConfig) -> Bundle:
    return learned_bundle(config)


@pytest.fixture(scope="module")
def dataset(config: TrainingConfig) -> Dataset:
    return load_dataset(write_set(config.train.parent, "test", 80, 5), 112)


class TestEvaluation:
    def test_rates_come_with_counts_and_intervals(self, bundle: Bundle, dataset: Dataset) -> None:
        figures = evaluate(bundle, dataset).figures
        assert figures["samples"] == {"attack": 40, "bona_fide": 40}
        assert len(figures["subsets"]) == 7
        whole = figures["subsets"]["rgb+depth+ir"]
        assert whole["BPCER"]["trials"] == 40
        low, high = whole["BPCER"]["interval"]
        assert low <= whole["BPCER"]["rate"] <= high
        assert figures["subjects"] == 80
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

    def test_evidence_is_given_for_each_blind_plane(self, bundle: Bundle, dataset: Dataset) -> None:
        found = evidence_when_blind(bundle.network, dataset)
        assert list(found) == ["as they are", "rgb blind", "depth blind", "ir blind"]
        # This network does not tell what its score rests on: all of it is with all modalities.
        assert all(list(row) == ["rgb+depth+ir"] for row in found.values())
        assert named_first(bundle.network, dataset) is None

    def test_depth_of_another_kind_is_refused(self, bundle: Bundle, dataset: Dataset) -> None:
        eight_bit = replace(dataset, depth_kind="8-bit")
        with pytest.raises(DepthKindMismatch, match=r"test_list.txt:1: .* 8-bit, .* millimetres"):
            evaluate(bundle, eight_bit)
        with pytest.raises(DepthKindMismatch, match="face_filled"):
            calibrate(bundle, eight_bit, "apcer", 0.15)

    def test_one_class_alone_can_not_be_evaluated(self, bundle: Bundle, dataset: Dataset) -> None:
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
        evaluation = evaluate(bundle, dataset)
        folder = write_report(
            evaluation, tmp_path / "report", "test <list>", command="livegate evaluate 'a b'"
        )
        for name in ("det", "histograms", "confusion", "most-wrong"):
            with Image.open(folder / f"{name}.png") as picture:
                assert min(picture.size) > 200
        page = (folder / "report.html").read_text()
        assert "test &lt;list&gt;" in page
        assert page.count("data:image/png;base64") == 4
        assert "livegate evaluate &#39;a b&#39;" in page
        assert bundle.digest in page
        scores = evaluation.scores["rgb+depth+ir"]
        worst = np.where(dataset.label == 1, scores, 2).argmin()
        assert f"<td>{dataset.files[worst]}<td>" in page
        with (folder / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 80
        assert rows[0]["file"] == dataset.files[0]
        assert 0 <= float(rows[0]["rgb+depth+ir"]) <= 1
        with pytest.raises(FileExistsError):
            write_report(evaluation, folder, "again")

    def test_det_axes_are_probits(self) -> None:
        # Quantiles of the normal distribution, from a table.
        found = probit(np.array([0.5, 0.05, 0.001, 0.0, 1.0]))
        assert found == pytest.approx([0, -1.6449, -3.0902, -4.2649, 4.2649], abs=1e-4)


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
        assert again.model_id.split("@")[1] != bundle.model_id.split("@")[1]

    def test_bpcer_can_be_the_target(self, bundle: Bundle, dataset: Dataset) -> None:
        made = calibrate(bundle, dataset, "bpcer", 0.15)
        assert made.thresholds["rgb+depth+ir"].calibration["bpcer_upper"] <= 0.15

    def test_bona_fide_alone_is_enough_for_bpcer(
        self, bundle: Bundle, config: TrainingConfig, tmp_path: Path
    ) -> None:
        lines = write_set(config.train.parent, "site", 120, 9).read_text().splitlines()
        site = config.train.parent / "bona_fide_list.txt"
        site.write_text("".join(f"{line}\n" for line in lines if line.endswith(" 1")))
        dataset = load_dataset(site, 112, bona_fide_alone=True)
        assert dataset.label.tolist() == [1] * 60
        known = {"rgb+depth+ir": bundle.thresholds["rgb+depth+ir"]}
        made = calibrate(replace(bundle, thresholds=known), dataset, "bpcer", 0.1)
        # APCER is unknown, so no set of modalities gets a threshold that had none.
        assert made.thresholds.keys() == known.keys()
        found = made.thresholds["rgb+depth+ir"].calibration
        assert found["apcer"] is None
        assert found["bpcer_upper"] <= 0.1
        assert found["bona_fide"] == 60
        load_bundle(save_bundle(made, tmp_path / "site"))
        with pytest.raises(CalibrationError, match="APCER needs attack presentations"):
            calibrate(bundle, dataset, "apcer", 0.1)

    def test_attacks_labelled_as_bona_fide_are_noticed(
        self, bundle: Bundle, dataset: Dataset
    ) -> None:
        rows = dataset.thinned(2)  # attacks, every one
        assert not rows.label.any()
        swapped = replace(rows, label=1 - rows.label, species=("bona_fide",) * len(rows))
        with pytest.raises(MetricError, match="the labels are swapped"):
            calibrate(bundle, swapped, "bpcer", 0.1)

    def test_modalities_can_be_required(
        self, bundle: Bundle, dataset: Dataset, tmp_path: Path
    ) -> None:
        made = calibrate(bundle, dataset, "apcer", 0.15, required=("ir", "rgb"))
        again = load_bundle(save_bundle(made, tmp_path / "strict"))
        assert again.required == ("rgb", "ir")
        assert again.thresholds.keys() <= {"rgb+ir", "rgb+depth+ir"}
        assert again.threshold_for(("depth", "ir")) is None
        assert again.threshold_for(MODALITIES) is not None
        assert calibrate(again, dataset, "apcer", 0.15).required == ("rgb", "ir")

    @pytest.mark.parametrize(
        ("target", "rate", "confidence", "field"),
        [
            ("apcer", 0.0, 0.95, "apcer"),
            ("bpcer", float("nan"), 0.95, "bpcer"),
            ("acer", 0.1, 0.95, "target"),
            ("apcer", 0.1, 1.0, "confidence"),
            ("apcer", 0.1, 0.2, "confidence"),
        ],
    )
    def test_arguments_that_make_no_sense(
        self,
        bundle: Bundle,
        dataset: Dataset,
        target: Any,
        rate: float,
        confidence: float,
        field: str,
    ) -> None:
        with pytest.raises(SettingError) as raised:
            calibrate(bundle, dataset, target, rate, confidence)
        assert raised.value.field == field

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
