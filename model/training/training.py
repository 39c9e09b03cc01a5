"""Training: list files in, a model bundle out."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.dataset import Chances, Dataset, batches, load_dataset, stored_px, subsets
from model.data.planes import MODALITIES, PlaneBatch
from model.data.quality import QualityLimits
from model.errors import ModelError
from model.evaluation.metrics import MetricError, Report, equal_error, judge
from model.evaluation.scoring import score
from model.network.mmfcnn import (
    FusionNetwork,
    MmfCNN,
    NetworkConfig,
    default_device,
    has_bf16,
)
from model.network.peers import build_network
from model.serving.bundle import Bundle, Threshold, save_bundle
from model.training.checkpoint import Checkpoint
from model.training.loss import AbcForm, AverageBinaryCenterLoss

_SELFTESTS_A_CLASS = 3
_EVALUATION_BATCH = 64
# A set of modalities by which some species passes more often gets no threshold: frames that have
# only these then get `no_decision`, not a guess.
_MAX_APCER = 0.05
_BLIND_WEIGHT = 0.2


class TrainingError(ModelError):
    """Training came to nothing that can be shipped; the message says why."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the defaults are the recipe on record, but for its bugs.

    Attributes:
        train: list file to train on.
        val: list file, of other subjects, to stop and to set thresholds on.
        bundle: folder of the bundle to write.
        network: the network's shape.
        abc: form of the Average Binary Center loss.
        epochs: at most.
        patience: stop after so many epochs without a better validation loss.
        batch: samples in a step.
        learning_rate: of SGD with momentum 0.9, at first.
        decay: what the rate is multiplied by after each epoch.
        weight_decay: of SGD.
        chances: how often samples are shown without a modality, or spoiled.
        crop_margin: with which the crops of the lists were cut.
        seed: of all chance.
        threads: CPU threads.
        bf16: run convolutions in bfloat16; by default where the machine has it, since elsewhere a
            step then takes eight times as long.
        about: training data and its licence, for the bundle.
    """

    train: Path
    val: Path
    bundle: Path
    network: NetworkConfig = field(default_factory=NetworkConfig)
    abc: AbcForm = "batch"
    epochs: int = 101
    patience: int = 15
    batch: int = 128
    learning_rate: float = 0.01
    decay: float = 0.95
    weight_decay: float = 5e-4
    chances: Chances = field(default_factory=lambda: Chances(0.8, blinding=0.15, covering=0.5))
    crop_margin: float = 0.2
    seed: int = 0
    threads: int = 2
    bf16: bool = field(default_factory=has_bf16)
    about: str = ""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to, on the validation list.

    Attributes:
        number: from 1.
        train_loss: mean over the epoch.
        val_loss: cross-entropy.
        apcer: worst species' rate at a threshold of 0.5.
        bpcer: at the same threshold.
        dead_gates: part of each level's channels that its gate keeps closed.
    """

    number: int
    train_loss: float
    val_loss: float
    apcer: float
    bpcer: float
    dead_gates: list[float]

    @property
    def acer(self) -> float:
        """Mean of the two error rates."""
        return (self.apcer + self.bpcer) / 2


def train(
    config: TrainingConfig, read: Callable[[Path, int], Dataset] = load_dataset
) -> Iterator[Epoch]:
    """Train, yielding after each epoch; the bundle is there once the iterator is exhausted.

    The same config on the same CPU gives the same weights, bit for bit, also if it was interrupted
    and started again: each epoch leaves a checkpoint beside the bundle, in `<bundle>.training`.

    Args:
        config: how.
        read: reads a list; who trains several networks on one list need not read it again.

    Raises:
        model.data.lists.ListError: a list file breaks a rule, or lacks a class.
        FileExistsError: there is a bundle at `config.bundle` already.
        TrainingError: the lists share a sample, or the network did not learn to tell the
            classes apart.
        model.training.checkpoint.CheckpointError: a checkpoint of another config lies there.
    """
    if config.bundle.exists():
        raise FileExistsError(f"{config.bundle} exists: choose another name for the bundle")
    torch.set_num_threads(config.threads)
    train_set, val_set = _disjoint(config, read)
    device = default_device()
    torch.manual_seed(config.seed)
    network = build_network(config.network).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = AverageBinaryCenterLoss(config.abc, network.num_features).to(device)
    optimiser = torch.optim.SGD(
        [*network.parameters(), *loss.parameters()],
        lr=config.learning_rate,
        momentum=0.9,
        weight_decay=config.weight_decay,
    )
    checkpoint = Checkpoint(config.bundle.with_name(f"{config.bundle.name}.training"))
    past = checkpoint.restore(described(config), network, loss, optimiser)
    epochs = [Epoch(**each) for each in past]
    yield from epochs
    for number in range(len(epochs) + 1, config.epochs + 1):
        best = min(epochs, key=lambda epoch: epoch.val_loss, default=None)
        if best is not None and number - 1 - best.number >= config.patience:
            break
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * config.decay ** (number - 1)
        rng = np.random.default_rng([config.seed, number])
        train_loss = _train_epoch(network, loss, optimiser, train_set, config, rng)
        try:
            scores = score(network, val_set, MODALITIES)
        except MetricError as error:
            raise TrainingError(f"epoch {number}: {error}: lower the learning rate") from error
        val_loss = _log_loss(scores, val_set.label)
        report = judge(scores, val_set.species, 0.5)
        epochs.append(
            Epoch(
                number,
                train_loss,
                val_loss,
                report.apcer,
                report.bpcer.value,
                _dead_gates(network, val_set),
            )
        )
        checkpoint.save(
            [asdict(epoch) for epoch in epochs],
            network,
            loss,
            optimiser,
            is_best=best is None or val_loss < best.val_loss,
        )
        yield epochs[-1]
    checkpoint.load_best(network)
    save_bundle(_bundle(network.cpu(), val_set, config), config.bundle)


def _disjoint(
    config: TrainingConfig, read: Callable[[Path, int], Dataset]
) -> tuple[Dataset, Dataset]:
    train_set, val_set = (read(each, config.network.size) for each in (config.train, config.val))
    if config.train.parent.resolve() == config.val.parent.resolve():
        trained_on = set(train_set.files)
        for where, name in zip(val_set.where, val_set.files, strict=True):
            if name in trained_on:
                raise TrainingError(
                    f"{where}: {name} is trained on too: stopping and thresholds need other "
                    "subjects"
                )
    return train_set, val_set


def _train_epoch(
    network: FusionNetwork,
    loss: AverageBinaryCenterLoss,
    optimiser: torch.optim.Optimizer,
    dataset: Dataset,
    config: TrainingConfig,
    rng: np.random.Generator,
) -> float:
    network.train()
    device = network.device
    total = 0.0
    for rows in batches(len(dataset), config.batch, rng):
        if len(rows) < 2:
            continue  # batch normalisation has no variance of one sample
        stored, is_blind = dataset.augmented(rows, config.chances, rng)
        # bf16 needs no loss scaling.
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            output = network(stored.to(device))
        label = torch.from_numpy(dataset.label[rows]).to(device)
        value = loss(output.logits, output.feature, label)
        # The shares explain a decision: no plane that shows nothing may have much of one.
        value = value + _BLIND_WEIGHT * (output.shares * is_blind.to(device)).sum(1).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        total += float(value.detach()) * len(rows)
    return total / len(dataset)


def _dead_gates(network: FusionNetwork, dataset: Dataset) -> list[float]:
    if not isinstance(network, MmfCNN):
        return []
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), _EVALUATION_BATCH)).astype(np.int64)
    return network.eval().dead_gates(dataset.batch(rows))


def _log_loss(scores: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    right = np.where(label == 1, scores, 1 - scores)
    return float(-np.log(np.clip(right, 1e-7, 1)).mean())


def _bundle(network: FusionNetwork, val_set: Dataset, config: TrainingConfig) -> Bundle:
    thresholds, metrics = {}, {}
    for modalities in subsets():
        scores = score(network, val_set, modalities)
        value = float(np.clip(equal_error(scores, val_set.label)[1], 0, 1))
        report = judge(scores, val_set.species, value)
        key = "+".join(modalities)
        metrics[key] = _figures(report)
        if report.apcer <= _MAX_APCER or modalities == MODALITIES:
            thresholds[key] = Threshold(value, {"rule": "equal error on val", **metrics[key]})
    scores = score(network, val_set, MODALITIES)
    rows = _selftests(scores, val_set.label, thresholds["+".join(MODALITIES)].value)
    stored = val_set.batch(rows)
    about: dict[str, Any] = {
        "training_data": config.about,
        "training": described(config),
        "val": metrics,
    }
    return Bundle(
        name=config.bundle.name,
        network=network.eval(),
        crop_margin=_served_margin(config),
        quality=QualityLimits.for_size(config.network.size),
        thresholds=thresholds,
        selftest=PlaneBatch(*(plane.numpy() for plane in stored)),
        selftest_scores=scores[rows].astype(np.float32),
        about=about,
    )


def _served_margin(config: TrainingConfig) -> float:
    """Return the margin to serve with: training's input is cut out of a larger crop of the face."""
    shown = config.network.size / stored_px(config.network.size)
    return ((1 + 2 * config.crop_margin) * shown - 1) / 2


def described(config: TrainingConfig) -> dict[str, Any]:
    """Return what a run depends on, without this machine's paths."""
    fields = {**asdict(config), "network": config.network.to_dict()}
    fields.update(train=config.train.name, val=config.val.name)
    return {key: value for key, value in fields.items() if key not in ("about", "bundle")}


def _figures(report: Report) -> dict[str, Any]:
    trials = sum(rate.trials for rate in report.apcer_of.values())
    return {
        "bona_fide": report.bpcer.trials,
        "attacks": trials,
        "apcer": round(report.apcer, 5),
        "apcer_pooled": round(report.apcer_pooled.value, 5),
        "bpcer": round(report.bpcer.value, 5),
        "bpcer_interval": [round(end, 5) for end in report.bpcer.interval()],
    }


def _selftests(
    scores: NDArray[np.float64], label: NDArray[np.int64], threshold: float
) -> NDArray[np.int64]:
    """Return rows that are decided right, of both classes, away from the threshold."""
    chosen: list[int] = []
    for value in (1, 0):
        margin = (scores - threshold) * (1 if value else -1)
        order = np.argsort(np.where(label == value, margin, -np.inf))[::-1]
        if not (margin[label == value] > 0).any():
            raise TrainingError(
                f"no validation sample of class {value} is decided right: the network has learned "
                "nothing; look at the lists, or train longer or with a lower learning rate"
            )
        right = order[: max(_SELFTESTS_A_CLASS, int((label == value).sum() * 0.6))]
        chosen += right[:: max(1, len(right) // _SELFTESTS_A_CLASS)][:_SELFTESTS_A_CLASS].tolist()
    return np.array(chosen, np.int64)
