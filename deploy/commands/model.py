"""The model engineer's commands on a bundle: calibrate, evaluate, compare, drift, judge, upgrade.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.extras import needs
from deploy.errors import DeployError

app = typer.Typer()

_BundleName = Annotated[
    str, typer.Option(help="Bundle: a folder, or the name of a shipped bundle.")
]


_Composites = Annotated[
    str,
    typer.Option(
        help="Attacks to make of the list's bona fide, comma-separated: some of split, covered, "
        "shifted, invented; '' for none."
    ),
]


class UserError(DeployError):
    """The command was used in a way that it does not support; the message says what to do."""


@app.command()
@needs("train")
def evaluate(
    list_file: Annotated[Path, typer.Argument(help="List file of subjects not trained on.")],
    bundle: _BundleName = "rendered-small",
    report: Annotated[
        Path | None,
        typer.Option(help="Folder to write: scores, curves, an HTML page (extra `report`)."),
    ] = None,
    composites: _Composites = "",
) -> None:
    """Print a bundle's error rates on a list file, with intervals by subject, as JSON."""
    from model.data.composites import with_composites
    from model.data.dataset import load_dataset
    from model.evaluation.evaluation import evaluate as run
    from model.runs.outputs import refuse_existing
    from model.runs.progress import shown
    from model.serving.bundle import find_bundle, load_bundle

    if report is not None:
        refuse_existing(report, "report")
        from model.evaluation.report import write_report
    judged = load_bundle(find_bundle(bundle))
    dataset = load_dataset(list_file, judged.config.size)
    dataset = with_composites(dataset, _names(composites))
    with shown("evaluating", 7) as advance:
        evaluation = run(judged, dataset, advance)
    if report is not None:
        command = shlex.join(["livegate", *sys.argv[1:]])
        write_report(evaluation, report, title=list_file.name, command=command)
    typer.echo(json.dumps(evaluation.figures, indent=1))


@app.command()
@needs("train")
def calibrate(
    list_file: Annotated[
        Path, typer.Argument(help="List file of the site, or of one like it; not trained on.")
    ],
    new_bundle: Annotated[Path, typer.Argument(help="Folder of the new version to write.")],
    bundle: _BundleName = "rendered-small",
    apcer: Annotated[
        float | None, typer.Option(help="Target: APCER of the worst species, such as 0.01.")
    ] = None,
    bpcer: Annotated[
        float | None,
        typer.Option(help="Or: BPCER, such as 0.02; a list of bona fide alone is enough."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="With which the target is shown to be met.")
    ] = 0.95,
    require: Annotated[
        str | None,
        typer.Option(
            help="Modalities without which no decision is made, such as depth,ir; '' for none. "
            "Those of the bundle if not given."
        ),
    ] = None,
    composites: _Composites = "split,covered,shifted,invented",
    jitter: Annotated[
        float,
        typer.Option(min=0, max=0.25, help="Part of its side by which each face box is moved."),
    ] = 0.1,
) -> None:
    """Set a bundle's thresholds for a target error rate; refused if the sample can't show it."""
    from dataclasses import replace

    from model.data.composites import with_composites
    from model.data.dataset import load_dataset
    from model.evaluation.calibration import Target
    from model.evaluation.calibration import calibrate as run
    from model.evaluation.scoring import Jitter
    from model.runs.outputs import refuse_existing
    from model.runs.progress import shown
    from model.serving.bundle import find_bundle, load_bundle, save_bundle

    targets: list[tuple[Target, float | None]] = [("apcer", apcer), ("bpcer", bpcer)]
    given = [(target, rate) for target, rate in targets if rate is not None]
    if len(given) != 1:
        raise UserError("give one target: either --apcer or --bpcer")
    ((target, rate),) = given
    refuse_existing(new_bundle, "new version")
    old = load_bundle(find_bundle(bundle))
    dataset = load_dataset(list_file, old.config.size, bona_fide_alone=target == "bpcer")
    if target == "apcer":
        dataset = with_composites(dataset, _names(composites))
    required = None if require is None else _names(require)
    with shown("calibrating", 7) as advance:
        moved = Jitter(jitter, jitter)
        made = run(old, dataset, target, rate, confidence, required, advance, moved)
    save_bundle(replace(made, name=new_bundle.name), new_bundle)
    for modalities, threshold in made.thresholds.items():
        found = threshold.calibration
        apcer_text = "unknown"
        if found["apcer"] is not None:
            apcer_text = (
                f"{found['apcer']:.4f} (at most {found['apcer_upper']:.4f}, "
                f"{found['worst_species']})"
            )
        typer.echo(
            f"{modalities:14s} threshold {threshold.value:.4f}  APCER {apcer_text}  "
            f"BPCER {found['bpcer']:.4f} (at most {found['bpcer_upper']:.4f})"
        )
    typer.echo(f"bundle: {new_bundle}; other sets of modalities get no_decision")


@app.command()
@needs("train")
def compare(
    list_file: Annotated[Path, typer.Argument(help="List file of subjects not trained on.")],
    first: Annotated[str, typer.Argument(help="Bundle: a folder, or a shipped bundle's name.")],
    second: Annotated[str, typer.Argument(help="Another bundle, with the same depth kind.")],
    composites: _Composites = "",
) -> None:
    """Compare two bundles on one list: each figure's difference with its paired interval."""
    from model.data.composites import with_composites
    from model.data.dataset import load_dataset
    from model.evaluation.comparison import compare as run
    from model.evaluation.comparison import table
    from model.runs.progress import shown
    from model.serving.bundle import find_bundle, load_bundle

    one, other = (load_bundle(find_bundle(each)) for each in (first, second))
    names = _names(composites)
    datasets = (
        with_composites(load_dataset(list_file, one.config.size), names),
        with_composites(load_dataset(list_file, other.config.size), names),
    )
    with shown("comparing", 2) as advance:
        found = run(one, other, datasets, advance)
    typer.echo(f"first: {one.model_id}; second: {other.model_id}")
    typer.echo(table(found))


@app.command()
@needs("train")
def drift(
    list_file: Annotated[Path, typer.Argument(help="List file of a site's recent frames.")],
    bundle: Annotated[str, typer.Option(help="Bundle that was calibrated for the site.")],
) -> None:
    """Tell whether a site's scores and quality have moved since it was calibrated; exit 1 if so.

    The list is of frames of people: label all of them 1.
    """
    from model.data.dataset import load_dataset
    from model.evaluation.drift import drift as run
    from model.evaluation.drift import table
    from model.serving.bundle import find_bundle, load_bundle

    judged = load_bundle(find_bundle(bundle))
    found = run(judged, load_dataset(list_file, judged.config.size, bona_fide_alone=True))
    typer.echo(table(found))
    if any(each.is_alarming for each in found.values()):
        raise typer.Exit(code=1)


@app.command()
@needs("train")
def judge(
    rgb: Annotated[Path | None, typer.Option(help="Colour picture, JPEG or PNG.")] = None,
    depth: Annotated[Path | None, typer.Option(help="Depth, PNG of 16 or 8 bits.")] = None,
    ir: Annotated[Path | None, typer.Option(help="Infrared picture, JPEG or PNG.")] = None,
    face_box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(help="x y w h in px of the first picture; without it all are face crops."),
    ] = None,
    depth_unit_mm: Annotated[
        float, typer.Option(min=0.001, max=100, help="Millimetres per count of 16-bit depth.")
    ] = 1.0,
    bundle: _BundleName = "rendered-small",
) -> None:
    """Judge one face offline; print decision, score, threshold and quality faults as JSON."""
    from model.serving.bundle import find_bundle, load_bundle
    from model.serving.eager import eager_engine
    from model.serving.judgement import judge as run

    given = {"rgb": rgb, "depth": depth, "ir": ir}
    files = {name: file for name, file in given.items() if file is not None}
    if not files:
        raise UserError("give at least one of --rgb, --depth and --ir")
    engine = eager_engine(load_bundle(find_bundle(bundle)))
    typer.echo(json.dumps(run(engine, files, face_box, depth_unit_mm), indent=1))


@app.command()
@needs("train")
def upgrade(
    old_bundle: Annotated[Path, typer.Argument(help="Folder of a bundle of schema 1.")],
    new_bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to write.")],
) -> None:
    """Convert a bundle of Livegate 0.1; weights and thresholds stay, the model id changes."""
    from model.serving.bundle import load_bundle, upgrade_bundle

    typer.echo(
        f"bundle: {new_bundle}, {load_bundle(upgrade_bundle(old_bundle, new_bundle)).model_id}"
    )


def _names(given: str) -> tuple[str, ...]:
    return tuple(filter(None, given.split(",")))
