"""Training: list files in, a model bundle out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.bundle import Bundle, Threshold, save_bundle
from model.dataset import STORED_PX, Dataset, batches, load_dataset, subsets
from model.loss import AbcForm, AverageBinaryCenterLoss
from model.metrics import Report, equal_error, judge
from model.network import BONA_FIDE, MmfCNN, NetworkConfig
from model.planes import MODALITIES, PlaneBatch

_log = logging.getLogger(__name__)
_SELFTESTS_A_CLASS = 3
_EVALUATION_BATCH = 64
# A set of modalities by which some species passes more often gets no threshold: frames that have
# only these then get `no_decision`, not a guess.
_MAX_APCER = 0.05


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
        modality_dropout: chance that a sample is shown without one or two of its modalities.
        crop_margin: with which the crops of the lists were cut.
        seed: of all chance.
        threads: CPU threads.
        bf16: run convolutions in bfloat16.
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
    modality_dropout: float = 0.4
    crop_margin: float = 0.2
    seed: int = 0
    threads: int = 2
    bf16: bool = True
    about: str = ""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: losses, and the error rates on the validation list."""

    number: int
    train_loss: float
    val_loss: float
    report: Report


def train(config: TrainingConfig) -> Iterator[Epoch]:
    """Train, yielding after each epoch; the bundle is there once the iterator is exhausted.

    The same config on the same CPU gives the same weights, bit for bit.

    Raises:
        model.lists.ListError: a list file breaks a rule.
        FileExistsError: there is a bundle at `config.bundle` already.
    """
    if config.bundle.exists():
        raise FileExistsError(f"{config.bundle} exists: choose another name for the bundle")
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    rng = np.random.default_rng(config.seed)
    train_set, val_set = load_dataset(config.train), load_dataset(config.val)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = MmfCNN(config.network).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = AverageBinaryCenterLoss(config.abc, config.network.channels[3]).to(device)
    optimiser = torch.optim.SGD(
        [*network.parameters(), *loss.parameters()],
        lr=config.learning_rate,
        momentum=0.9,
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, config.decay)
    best, best_state, best_epoch = np.inf, network.state_dict(), 0
    for number in range(1, config.epochs + 1):
        train_loss = _train_epoch(network, loss, optimiser, train_set, config, rng)
        schedule.step()
        scores = score(network, val_set, MODALITIES)
        val_loss = _log_loss(scores, val_set.label)
        yield Epoch(number, train_loss, val_loss, judge(scores, val_set.species, 0.5))
        if val_loss < best:
            best, best_epoch = val_loss, number
            best_state = {key: value.clone() for key, value in network.state_dict().items()}
        if number - best_epoch >= config.patience:
            break
    network.load_state_dict(best_state)
    save_bundle(_bundle(network.cpu(), val_set, config), config.bundle)


def score(network: MmfCNN, dataset: Dataset, modalities: Sequence[str]) -> NDArray[np.float64]:
    """Return the (N,) bona fide scores of a data set seen with some modalities only."""
    network.eval()
    device = next(network.parameters()).device
    kept = torch.tensor([name in modalities for name in MODALITIES])
    scores = []
    with torch.inference_mode():
        for rows in batches(len(dataset), _EVALUATION_BATCH):
            stored = dataset.batch(rows, network.config.size)
            stored = stored._replace(present=stored.present & kept)
            output = network(type(stored)(*(plane.to(device) for plane in stored)))
            scores.append(output.logits.softmax(1)[:, BONA_FIDE].double().cpu().numpy())
    return np.concatenate(scores)


def _train_epoch(
    network: MmfCNN,
    loss: AverageBinaryCenterLoss,
    optimiser: torch.optim.Optimizer,
    dataset: Dataset,
    config: TrainingConfig,
    rng: np.random.Generator,
) -> float:
    network.train()
    device = next(network.parameters()).device
    total = 0.0
    for rows in batches(len(dataset), config.batch, rng):
        if len(rows) < 2:
            continue  # batch normalisation has no variance of one sample
        stored = dataset.augmented(rows, config.network.size, config.modality_dropout, rng)
        # bf16 halves a step on CPUs that have it, and needs no loss scaling.
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            output = network(type(stored)(*(plane.to(device) for plane in stored)))
        label = torch.from_numpy(dataset.label[rows]).to(device)
        value = loss(output.logits, output.feature, label)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        total += float(value.detach()) * len(rows)
    return total / len(dataset)


def _log_loss(scores: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    right = np.where(label == 1, scores, 1 - scores)
    return float(-np.log(np.clip(right, 1e-7, 1)).mean())


def _bundle(network: MmfCNN, val_set: Dataset, config: TrainingConfig) -> Bundle:
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
    stored = val_set.batch(rows, config.network.size)
    about: dict[str, Any] = {
        "training_data": config.about,
        "training": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(replace(config, train=Path(config.train.name))).items()
            if key not in ("about", "bundle", "val", "network")
        },
        "val": metrics,
    }
    return Bundle(
        name=config.bundle.name,
        network=network.eval(),
        # Training cuts its input out of a larger crop, so faces fill more of it: serve them so.
        crop_margin=((1 + 2 * config.crop_margin) * config.network.size / STORED_PX - 1) / 2,
        thresholds=thresholds,
        selftest=PlaneBatch(*(plane.numpy() for plane in stored)),
        selftest_scores=scores[rows].astype(np.float32),
        about=about,
    )


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
        right = order[: max(_SELFTESTS_A_CLASS, int((label == value).sum() * 0.6))]
        chosen += right[:: max(1, len(right) // _SELFTESTS_A_CLASS)][:_SELFTESTS_A_CLASS].tolist()
    return np.array(chosen, np.int64)
