"""Evaluation of a data set as a picture: the audit's table in colour. Needs the extra `train`."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from model.evaluation.audit import Audit, physical

mpl.use("agg")


def write_picture(audit: Audit, path: Path, title: str) -> None:
    """Write a PNG: AUC by colour, findings framed, what is in a species' nature in brackets."""
    height, width = audit.auc.shape
    figure = Figure(figsize=(3 + 0.62 * width, 1.5 + 0.24 * height), layout="constrained")
    axes = figure.subplots()
    axes.imshow(audit.auc, cmap="OrRd", vmin=0.5, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(audit.auc):
        if np.isnan(value):
            continue
        is_natural = physical(audit.figures[row], audit.species[column]) is not None
        is_over = value > audit.limit
        text = f"{value:.2f}"
        axes.text(
            column,
            row,
            f"({text})" if is_over and is_natural else text,
            ha="center",
            va="center",
            fontsize=7,
            color="white" if value > 0.85 else "black",
        )
        if is_over and not is_natural:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=1.5))
    axes.set_xticks(range(width), audit.species, rotation=45, ha="right")
    axes.set_yticks(range(height), audit.figures, fontsize=7)
    axes.set_title(f"{title}: AUC of simple figures, limit {audit.limit:g}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
