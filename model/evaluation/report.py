"""An evaluation as pictures and one HTML page, for people.

    scores.csv  figures.json  det.png  histograms.png  confusion.png  most-wrong.png  report.html

Needs the extra `report`. The folder appears whole or not at all; the page carries its pictures.
"""

import base64
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model.data.planes import MODALITIES
from model.evaluation.evaluation import Evaluation, as_served, write_scores

mpl.use("agg")
_ALL = "+".join(MODALITIES)
_WORST = 12
_TILE_PX = 112
_SMALLEST = 1e-5
_PAGE = Path(__file__).with_name("report.html.jinja")


def write_report(evaluation: Evaluation, folder: Path, title: str) -> Path:
    """Write the report and return its folder.

    Raises:
        FileExistsError: there is something at `folder` already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: choose another name for the report")
    folder.parent.mkdir(parents=True, exist_ok=True)
    pictures = {
        "det": _drawn(_draw_det, evaluation, (7, 6)),
        "histograms": _drawn(_draw_histogram, evaluation, (7, 4)),
        "confusion": _drawn(_draw_confusion, evaluation, (6, 6)),
        "most-wrong": _most_wrong(evaluation),
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as name:
        partial = Path(name) / folder.name
        partial.mkdir()
        write_scores(evaluation, partial / "scores.csv")
        figures = json.dumps(evaluation.figures, indent=1) + "\n"
        (partial / "figures.json").write_text(figures, encoding="utf-8")
        for picture, content in pictures.items():
            (partial / f"{picture}.png").write_bytes(content)
        page = jinja2.Template(_PAGE.read_text(encoding="utf-8"), autoescape=True).render(
            title=title,
            figures=evaluation.figures,
            modalities=MODALITIES,
            pictures={
                key: base64.b64encode(value).decode("ascii") for key, value in pictures.items()
            },
        )
        (partial / "report.html").write_text(page, encoding="utf-8")
        partial.rename(folder)
    return folder


def _drawn(draw: Any, evaluation: Evaluation, inches: tuple[float, float]) -> bytes:  # noqa: ANN401
    figure = Figure(figsize=inches, layout="constrained")
    draw(figure.subplots(), evaluation)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_det(axes: Axes, evaluation: Evaluation) -> None:
    """Draw BPCER against APCER of all attacks, one curve for each set of modalities."""
    is_bona_fide = evaluation.dataset.label == 1
    for name, scores in evaluation.scores.items():
        thresholds = np.unique(scores)
        attacks, bona_fide = np.sort(scores[~is_bona_fide]), np.sort(scores[is_bona_fide])
        accepted = 1 - np.searchsorted(attacks, thresholds) / len(attacks)
        refused = np.searchsorted(bona_fide, thresholds) / len(bona_fide)
        width = 2.5 if name == _ALL else 1.2
        axes.plot(
            np.maximum(accepted, _SMALLEST),
            np.maximum(refused, _SMALLEST),
            label=name,
            linewidth=width,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(_SMALLEST, 1),
        ylim=(_SMALLEST, 1),
        xlabel="attack presentations accepted (all species)",
        ylabel="bona fide presentations refused",
        title="Detection error trade-off",
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()


def _draw_histogram(axes: Axes, evaluation: Evaluation) -> None:
    """Draw the scores of both classes, as log odds: most lie close to 0 and 1."""
    is_bona_fide = evaluation.dataset.label == 1
    odds = _log_odds(evaluation.scores[_ALL])
    bins = np.linspace(odds.min(), odds.max() + 1e-6, 80)
    axes.hist(odds[is_bona_fide], bins.tolist(), alpha=0.6, label="bona fide")
    axes.hist(odds[~is_bona_fide], bins.tolist(), alpha=0.6, label="attacks")
    threshold = evaluation.bundle.threshold_for(MODALITIES)
    if threshold is not None:
        at = float(_log_odds(np.array([threshold]))[0])
        axes.axvline(at, color="black", linestyle="--", label="threshold")
    axes.set(yscale="log", xlabel="log odds of the bona fide score", title=f"Scores, {_ALL}")
    axes.legend()


def _draw_confusion(axes: Axes, evaluation: Evaluation) -> None:
    """Draw what becomes of each species, with the thresholds and the gates."""
    table = as_served(evaluation)
    outcomes = ["bona_fide", "attack", "no_decision"]
    counts = np.array([[row[outcome] for outcome in outcomes] for row in table.values()], float)
    parts = counts / counts.sum(1, keepdims=True)
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), part in np.ndenumerate(parts):
        label = f"{part:.2%}\n{int(counts[row, column])}"
        color = "white" if part > 0.5 else "black"
        axes.text(column, row, label, ha="center", va="center", fontsize=8, color=color)
    axes.set(title="What becomes of each species", xticks=range(3), yticks=range(len(table)))
    axes.set_xticklabels(outcomes)
    axes.set_yticklabels(table)


def _most_wrong(evaluation: Evaluation) -> bytes:
    """Return a contact sheet: bona fide with the lowest scores, attacks with the highest."""
    scores, label = evaluation.scores[_ALL], evaluation.dataset.label
    columns = []
    for value, direction in ((1, 1), (0, -1)):
        rows = np.flatnonzero(label == value)
        worst = rows[np.argsort(direction * scores[rows], kind="stable")][:_WORST]
        columns.append(np.vstack([_tile(evaluation, int(row)) for row in worst]))
    height = max(len(column) for column in columns)
    padded = [
        cv2.copyMakeBorder(c, 0, height - len(c), 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        for c in columns
    ]
    _, data = cv2.imencode(".png", np.hstack(padded))
    return bytes(data.tobytes())


def _tile(evaluation: Evaluation, row: int) -> NDArray[np.uint8]:
    planes, size = evaluation.dataset.planes, (_TILE_PX, _TILE_PX)
    depth = planes.depth[row].astype(np.float32)
    known = depth[depth > 0]
    middle = float(np.median(known)) if len(known) else 0.0
    relief = np.where(depth > 0, np.clip((middle - depth) / 150 * 127 + 128, 1, 255), 0)
    grays = [
        cv2.cvtColor(each.astype(np.uint8), cv2.COLOR_GRAY2BGR) for each in (relief, planes.ir[row])
    ]
    color = cv2.cvtColor(planes.rgb[row], cv2.COLOR_RGB2BGR)
    tile = np.hstack([cv2.resize(each, size) for each in (color, *grays)])
    text = f"{evaluation.dataset.species[row]} {evaluation.scores[_ALL][row]:.5f}"
    bar = np.full((16, tile.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, tile])


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(scores, 1e-12, 1 - 1e-12)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds
