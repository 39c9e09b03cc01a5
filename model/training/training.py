"""Training: list files in, a model bundle out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model.data.augmentation import augmented
from model.data.composites import KINDS, PROTOCOLS, with_composites
from model.data.dataset import Dataset, batches, load_dataset
from model.data.planes import MODALITIES
from model.evaluation.metrics import MetricError, judge
from model.evaluation.scoring import check_depth_kind, score
from model.network.device import default_device
from model.network.evidence import AdditiveEvidence
from model.network.mmfcnn import FusionNetwork, MmfCNN
from model.network.peers import build_network
from model.runs.outputs import refuse_existing
from model.runs.progress import Advance, ignore
from model.serving.bundle import save_bundle
from model.training.checkpoint import Checkpoint, State
from model.training.drawing import draw
from model.training.loss import AverageBinaryCenterLoss, evidence_loss
from model.training.recipe import TrainingConfig, described
from model.training.release import TrainingError, release

_DEAD_GATE_SAMPLES = 64
_BLIND_WEIGHT = 0.2
# Composites of each species that a validation list gets.
_VAL_COMPOSITES = 100


@dataclass(frozen=True)
class Epoch:
    """Result of an epoch.

    Attributes:
        number: from 1.
        train_loss: mean over the epoch.
        val_loss: cross-entropy on the validation samples that model selection may use, see
            `selectable`; on all of them if it may use none.
        apcer: highest of the species' rates on the validation list, at a threshold of 0.5.
        bpcer: on the validation list, at the same threshold.
        dead_gates: for each fusion level, the part of its channels that the gate keeps closed.
        attack_loss: for each attack species, its samples' mean cross-entropy over the epoch.
    """

    number: int
    train_loss: float
    val_loss: float
    apcer: float
    bpcer: float
    dead_gates: list[float]
    attack_loss: dict[str, float] = field(default_factory=dict)

    @property
    def acer(self) -> float:
        """Mean of APCER and BPCER."""
        return (self.apcer + self.bpcer) / 2


def train(
    config: TrainingConfig,
    read: Callable[[Path, int], Dataset] = load_dataset,
    advance: Advance = ignore,
) -> Iterator[Epoch]:
    """Train, yielding after each epoch; the bundle is written when the iterator is exhausted.

    The same config on the same CPU gives the same weights bit for bit, whether the run was
    interrupted or not: each epoch leaves a checkpoint in `<bundle>.training`, beside the bundle.

    Args:
        config: the run.
        read: reads a list; pass a caching one to train several networks on the same list.
        advance: called with the amount of work done, in epochs.

    Raises:
        model.data.lists.ListError: a list file breaks a rule, or lacks a class.
        model.runs.outputs.OutputExists: there is something at `config.bundle` already.
        model.evaluation.scoring.DepthKindMismatch: a list's depth does not suit the depth mode.
        TrainingError: the lists share a sample, or the network did not learn to separate the
            classes.
        model.training.checkpoint.CheckpointError: a checkpoint of another config is there.
    """
    refuse_existing(config.bundle, "bundle")
    torch.set_num_threads(config.threads)
    train_set, val_set = _read_lists(config, read)
    if config.chances.composing:
        val_set = with_composites(val_set, tuple(PROTOCOLS), each=_VAL_COMPOSITES)
    rows = selectable(train_set, val_set)
    state = _fresh(config)
    checkpoint = Checkpoint(config.bundle.with_name(f"{config.bundle.name}.training"))
    past = checkpoint.restore(described(config), state)
    epochs = [Epoch(**each) for each in past]
    advance(len(epochs))
    yield from epochs
    while len(epochs) < config.epochs and not (len(rows) and has_stalled(epochs, config.patience)):
        number = len(epochs) + 1
        for group in state.optimiser.param_groups:
            group["lr"] = config.learning_rate * config.decay ** (number - 1)
        rng = np.random.default_rng([config.seed, number])
        known = epochs[-1].attack_loss if epochs else {}
        drawn = draw(train_set, known, composes=config.chances.composing > 0, rng=rng)
        losses = _train_epoch(state, train_set, drawn, config, rng, advance)
        epoch = _judged(number, losses, state.network, val_set, rows)
        is_best = all(epoch.val_loss < each.val_loss for each in epochs) or not len(rows)
        epochs.append(epoch)
        checkpoint.save([asdict(each) for each in epochs], state, is_best=is_best)
        yield epoch
    checkpoint.load_best(state.network)
    about = {
        "training_data": config.about,
        "training": described(config),
        "selection": _selection(val_set, rows),
    }
    network = state.network.cpu()
    made = release(config.bundle.name, network, val_set, about)
    save_bundle(made, config.bundle)


def selectable(train_set: Dataset, val_set: Dataset) -> NDArray[np.int64]:
    """Return the rows of the validation list by which the best epoch may be selected.

    These are bona fide and the attack species that are trained on: selecting by a species that is
    to be unknown, as in a cross-attack protocol, would leak the test into the network.

    Returns:
        Row numbers; empty if the list has no species that is trained on.
    """
    known = set(train_set.species) | {"bona_fide"} | set(KINDS)
    rows = np.flatnonzero([species in known for species in val_set.species])
    return rows if (val_set.label[rows] == 0).any() else rows[:0]


def has_stalled(epochs: Sequence[Epoch], patience: int) -> bool:
    """Return whether the last `patience` epochs brought no better validation loss."""
    if not epochs:
        return False
    best = min(epochs, key=lambda epoch: epoch.val_loss)
    return epochs[-1].number - best.number >= patience


def _selection(val_set: Dataset, rows: NDArray[np.int64]) -> str:
    if not len(rows):
        return "last epoch: the validation list has no species that is trained on"
    species = sorted({val_set.species[row] for row in rows} - {"bona_fide"})
    return f"epoch with the lowest cross-entropy on bona fide and {', '.join(species)}"


def _read_lists(
    config: TrainingConfig, read: Callable[[Path, int], Dataset]
) -> tuple[Dataset, Dataset]:
    train_set, val_set = (read(each, config.network.size) for each in (config.train, config.val))
    for dataset in (train_set, val_set):
        check_depth_kind(config.network, dataset)
    if config.train.parent.resolve() == config.val.parent.resolve():
        trained_on = set(train_set.files)
        for where, name in zip(val_set.where, val_set.files, strict=True):
            if name in trained_on:
                raise TrainingError(
                    f"{where}: {name} is trained on too: model selection and thresholds need other "
                    "subjects"
                )
    return train_set, val_set


def _fresh(config: TrainingConfig) -> State:
    device = default_device()
    torch.manual_seed(config.seed)
    network = build_network(config.network).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = AverageBinaryCenterLoss(config.abc, network.num_features, config.abc_scale).to(device)
    parameters = [*network.parameters(), *loss.parameters()]
    rate, decay = config.learning_rate, config.weight_decay
    optimiser: torch.optim.Optimizer
    if config.optimiser == "adamw":
        optimiser = torch.optim.AdamW(parameters, rate, weight_decay=decay)
    else:
        optimiser = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    return State(network, loss, optimiser)


class _Losses(NamedTuple):
    """What an epoch cost: on average, and each attack species."""

    mean: float
    attacks: dict[str, float]


def _train_epoch(
    state: State,
    dataset: Dataset,
    drawn: NDArray[np.int64],
    config: TrainingConfig,
    rng: np.random.Generator,
    advance: Advance,
) -> _Losses:
    network, loss, optimiser = state
    network.train()
    device = network.device
    total = 0.0
    of_rows = np.full(len(dataset), np.nan)
    for chosen in batches(len(drawn), config.batch, rng):
        if len(chosen) < 2:
            continue  # batch normalisation has no variance of one sample
        batch = augmented(dataset, drawn[chosen], config.chances, rng)
        stored, label = batch.stored.to(device), batch.label.to(device)
        # bf16 needs no loss scaling.
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            output = network(stored)
        value = loss(output.logits, output.feature, label)
        if isinstance(network, AdditiveEvidence):
            labels = batch.planes.to(device), batch.pairs.to(device)
            value = value + evidence_loss(output.evidence, stored.present, *labels, config.matching)
        else:
            # Shares explain the gate: a plane that shows nothing must not have a large one.
            blind = (output.shares * batch.is_blind.to(device)).sum(1).mean()
            value = value + _BLIND_WEIGHT * blind
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        total += float(value.detach()) * len(chosen)
        each = functional.cross_entropy(output.logits.detach().float(), label, reduction="none")
        of_rows[drawn[chosen]] = each.cpu().numpy()
        advance(len(chosen) / len(drawn))
    attacks = {
        species: float(np.nanmean(of_rows[[each == species for each in dataset.species]]))
        for species in sorted({dataset.species[row] for row in drawn if not dataset.label[row]})
    }
    return _Losses(total / len(drawn), attacks)


def _judged(
    number: int,
    losses: _Losses,
    network: FusionNetwork,
    val_set: Dataset,
    rows: NDArray[np.int64],
) -> Epoch:
    try:
        scores = score(network, val_set, MODALITIES)
    except MetricError as error:
        raise TrainingError(f"epoch {number}: {error}: lower the learning rate") from error
    used = rows if len(rows) else np.arange(len(val_set))
    report = judge(scores, val_set.species, 0.5)
    return Epoch(
        number=number,
        train_loss=losses.mean,
        val_loss=_log_loss(scores[used], val_set.label[used]),
        apcer=report.apcer,
        bpcer=report.bpcer.value,
        dead_gates=_dead_gates(network, val_set),
        attack_loss=losses.attacks,
    )


def _dead_gates(network: FusionNetwork, dataset: Dataset) -> list[float]:
    if not isinstance(network, MmfCNN):
        return []
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), _DEAD_GATE_SAMPLES)).astype(np.int64)
    return network.eval().dead_gates(dataset.batch(rows))


def _log_loss(scores: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    right = np.where(label == 1, scores, 1 - scores)
    return float(-np.log(np.clip(right, 1e-7, 1)).mean())
