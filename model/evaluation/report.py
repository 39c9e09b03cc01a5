"""An evaluation as pictures and one HTML page, for people.

    scores.csv  figures.json  det.png  histograms.png  confusion.png  most-wrong.png  report.html

Needs the extra `report`. The folder appears whole or not at all; the page embeds its pictures.
"""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
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
from model.evaluation.metrics import judge
from model.runs.outputs import whole_folder

mpl.use("agg")
_ALL = "+".join(MODALITIES)
_NUM_WORST = 12
_TILE_PX = 112
_PAGE = Path(__file__).with_name("report.html.jinja")
_DET_RATES = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
_NORMAL = NormalDist()


def write_report(evaluation: Evaluation, folder: Path, title: str, command: str = "") -> Path:
    """Write the report and return its folder.

    Args:
        evaluation: what to report.
        folder: to create.
        title: of the page.
        command: the command that made it, shown on the page.

    Raises:
        model.runs.outputs.OutputExists: there is something at `folder` already.
    """
    worst = [_most_wrong(evaluation, label) for label in (1, 0)]
    with whole_folder(folder, "report") as partial:
        pictures = {
            "det": _drawn(_draw_det, evaluation, (7, 6)),
            "histograms": _drawn(_draw_histogram, evaluation, (7, 4)),
            "confusion": _drawn(_draw_confusion, evaluation, (6, 6)),
            "most-wrong": _contact_sheet(evaluation, worst),
        }
        write_scores(evaluation, partial / "scores.csv")
        figures = json.dumps(evaluation.figures, indent=1) + "\n"
        (partial / "figures.json").write_text(figures, encoding="utf-8")
        for picture, content in pictures.items():
            (partial / f"{picture}.png").write_bytes(content)
        page = jinja2.Template(_PAGE.read_text(encoding="utf-8"), autoescape=True).render(
            title=title,
            command=command,
            figures=evaluation.figures,
            modalities=MODALITIES,
            worst=[[_described(evaluation, row) for row in rows] for rows in worst],
            pictures={
                key: base64.b64encode(value).decode("ascii") for key, value in pictures.items()
            },
        )
        (partial / "report.html").write_text(page, encoding="utf-8")
    return folder


def _drawn(
    draw: Callable[[Axes, Evaluation], None], evaluation: Evaluation, inches: tuple[float, float]
) -> bytes:
    figure = Figure(figsize=inches, layout="constrained")
    draw(figure.subplots(), evaluation)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_det(axes: Axes, evaluation: Evaluation) -> None:
    """Draw BPCER against APCER of all attacks, for each set of modalities, on probit axes.

    Source: Martin et al., The DET curve in assessment of detection task performance, Eurospeech
    1997. Normally distributed scores give straight lines.
    """
    is_bona_fide = evaluation.dataset.label == 1
    for name, scores in evaluation.scores.items():
        thresholds = np.unique(scores)
        attacks, bona_fide = np.sort(scores[~is_bona_fide]), np.sort(scores[is_bona_fide])
        accepted = 1 - np.searchsorted(attacks, thresholds) / len(attacks)
        refused = np.searchsorted(bona_fide, thresholds) / len(bona_fide)
        width = 2.5 if name == _ALL else 1.2
        (line,) = axes.plot(probit(accepted), probit(refused), label=name, linewidth=width)
        threshold = evaluation.bundle.threshold_for(name.split("+"))
        if threshold is not None:
            report = judge(scores, evaluation.dataset.species, threshold)
            point = probit(np.array([report.apcer_pooled.value, report.bpcer.value]))
            axes.plot(*point, marker="o", color=line.get_color(), markeredgecolor="black")
    axes.plot([], [], "o", color="white", markeredgecolor="black", label="operating point")
    ticks, labels = probit(np.array(_DET_RATES)), [f"{100 * rate:g} %" for rate in _DET_RATES]
    axes.set_xticks(ticks, labels, fontsize=8)
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.set(
        xlim=(ticks[0], ticks[-1]),
        ylim=(ticks[0], ticks[-1]),
        xlabel="attack presentations accepted (all species)",
        ylabel="bona fide presentations refused",
        title="Detection error trade-off",
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


def probit(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal quantiles of rates in [0, 1]; 0 and 1 lie on the DET's edges."""
    inside = np.clip(rates, _DET_RATES[0], 1 - _DET_RATES[0])
    return np.array([_NORMAL.inv_cdf(float(rate)) for rate in inside])


def _draw_histogram(axes: Axes, evaluation: Evaluation) -> None:
    """Draw the scores of both classes as log odds, since most lie close to 0 and 1."""
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
    """Draw the decisions for each species, with the bundle's thresholds and quality gates."""
    table = as_served(evaluation)
    outcomes = ["bona_fide", "attack", "no_decision"]
    counts = np.array([[row[outcome] for outcome in outcomes] for row in table.values()], float)
    parts = counts / counts.sum(1, keepdims=True)
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), part in np.ndenumerate(parts):
        label = f"{part:.2%}\n{int(counts[row, column])}"
        color = "white" if part > 0.5 else "black"
        axes.text(column, row, label, ha="center", va="center", fontsize=8, color=color)
    axes.set(title="Decisions by species", xticks=range(3), yticks=range(len(table)))
    axes.set_xticklabels(outcomes)
    axes.set_yticklabels(table)


def _most_wrong(evaluation: Evaluation, label: int) -> list[int]:
    """Return the rows of a class that score farthest on the wrong side, the worst first."""
    rows = np.flatnonzero(evaluation.dataset.label == label)
    scores = evaluation.scores[_ALL][rows] * (1 if label else -1)
    worst: list[int] = rows[np.argsort(scores, kind="stable")][:_NUM_WORST].tolist()
    return worst


def _described(evaluation: Evaluation, row: int) -> dict[str, Any]:
    return {
        "file": evaluation.dataset.files[row],
        "species": evaluation.dataset.species[row],
        "score": float(evaluation.scores[_ALL][row]),
    }


def _contact_sheet(evaluation: Evaluation, worst: list[list[int]]) -> bytes:
    """Return the planes of the most wrong samples: bona fide on the left, attacks on the right."""
    columns = [np.vstack([_tile(evaluation, row) for row in rows]) for rows in worst]
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
