"""Training curves: losses and error rates by epoch. Needs the extra `report`."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from model.training.training import Epoch


def write_curves(epochs: Sequence[Epoch], path: Path) -> None:
    """Write losses and error rates by epoch as a PNG file."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, rates = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in epochs]
    losses.plot(numbers, [epoch.train_loss for epoch in epochs], label="training")
    losses.plot(numbers, [epoch.val_loss for epoch in epochs], label="validation")
    for name in ("apcer", "bpcer", "acer"):
        rates.plot(numbers, [getattr(epoch, name) for epoch in epochs], label=name.upper())
    for axes, title in ((losses, "loss"), (rates, "validation, threshold 0.5")):
        axes.set(title=title, xlabel="epoch", ylim=(0, None))
        axes.legend()
    figure.savefig(path, format="png", dpi=110)
