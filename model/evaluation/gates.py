"""Evaluation of the quality gates: what they measure of a data set's samples."""

from dataclasses import replace

from model.data.dataset import Dataset
from model.data.planes import PlaneBatch
from model.data.quality import measure
from model.serving.bundle import selftest_rows


def quality_figures(dataset: Dataset) -> list[dict[str, float]]:
    """Return what the quality gates measure of each sample, as a served face."""
    start = (dataset.side - dataset.size) // 2
    middle = slice(start, start + dataset.size)
    planes = dataset.planes
    cut = PlaneBatch(
        planes.rgb[:, middle, middle],
        planes.depth[:, middle, middle],
        planes.ir[:, middle, middle],
        planes.present,
    )
    faces = (replace(face, depth_kind=dataset.depth_kind) for face in selftest_rows(cut))
    return [measure(face) for face in faces]
