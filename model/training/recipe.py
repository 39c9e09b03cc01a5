"""The recipe of a training run: all that its result depends on."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from model.data.augmentation import Chances
from model.errors import check_choice, check_number, check_whole
from model.network.config import NetworkConfig
from model.network.device import has_bf16
from model.training.loss import ABC_FORMS, AbcForm

Optimiser = Literal["sgd", "adamw"]
OPTIMISERS: tuple[Optimiser, ...] = ("sgd", "adamw")
RECIPE = Chances(
    dropout=0.5,
    blinding=0.15,
    covering=0.5,
    composing=0.5,
    holes=0.3,
    shift=0.15,
    zoom=0.15,
)


@dataclass(frozen=True)
class TrainingConfig:
    """A training run; the defaults are the recipe on record, without its two bugs.

    Attributes:
        train: list file to train on.
        val: list file of other subjects, for model selection and first thresholds.
        bundle: folder of the bundle to write.
        network: shape of the network.
        abc: form of the Average Binary Center loss.
        abc_scale: its factor b, >= 0; None: as on record.
        matching: weight of the pairs' own loss, for the fusions that compare pairs, >= 0.
        epochs: at most, >= 1.
        patience: number of epochs without a better validation loss after which the run stops.
        batch: samples per step, >= 2.
        optimiser: `sgd`, with momentum 0.9, or `adamw`.
        learning_rate: initial rate.
        decay: factor on the rate after each epoch, [0, 1].
        weight_decay: of the optimiser, >= 0.
        chances: probabilities with which a sample loses a modality or is degraded.
        seed: of every random number.
        threads: CPU threads.
        bf16: run convolutions in bfloat16. By default where the hardware has it; elsewhere a step
            would take eight times as long.
        about: training data and its licence, for the bundle.
    """

    train: Path
    val: Path
    bundle: Path
    network: NetworkConfig = field(default_factory=NetworkConfig)
    abc: AbcForm = "batch"
    abc_scale: float | None = None
    matching: float = 0.5
    epochs: int = 101
    patience: int = 15
    batch: int = 128
    optimiser: Optimiser = "sgd"
    learning_rate: float = 0.01
    decay: float = 0.95
    weight_decay: float = 5e-4
    chances: Chances = field(default_factory=lambda: RECIPE)
    seed: int = 0
    threads: int = 2
    bf16: bool = field(default_factory=has_bf16)
    about: str = ""

    def __post_init__(self) -> None:
        """Refuse what can't be run.

        Raises:
            SettingError: a field breaks its rule.
        """
        check_choice("abc", self.abc, ABC_FORMS)
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        for name, low in (("epochs", 1), ("patience", 1), ("batch", 2), ("seed", 0)):
            check_whole(name, getattr(self, name), low)
        check_whole("threads", self.threads, 1)
        check_number("learning_rate", self.learning_rate, 1e-12)
        check_number("weight_decay", self.weight_decay, 0)
        for name, value in {**asdict(self.chances), "decay": self.decay}.items():
            check_number(name, value, 0, 1)
        check_number("matching", self.matching, 0)
        if self.abc_scale is not None:
            check_number("abc_scale", self.abc_scale, 0)


def described(config: TrainingConfig) -> dict[str, Any]:
    """Return what the result of a run depends on, without this machine's paths."""
    fields = {**asdict(config), "network": config.network.to_dict()}
    fields.update(train=config.train.name, val=config.val.name)
    return {key: value for key, value in fields.items() if key not in ("about", "bundle")}
