"""The model engineer's commands: render, audit, train, evaluate, calibrate, judge, upgrade, ablate.

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


class UserError(DeployError):
    """The command was used in a way that it does not support; the message says what to do."""


@app.command()
@needs("render")
def render(
    folder: Annotated[
        Path, typer.Argument(help="Folder to fill; finished subjects are not rendered again.")
    ],
    subjects: Annotated[
        tuple[int, int, int], typer.Option(help="Number of subjects in train, val and test.")
    ] = (600, 40, 300),
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of pose, light, sensors and pictures; people depend on their numbers alone.",
        ),
    ] = 1,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that render in parallel.")
    ] = 2,
) -> None:
    """Render a data set of bona fide and attack presentations (needs the extra `render`)."""
    from model.render.dataset import RenderConfig, render_dataset

    made = render_dataset(RenderConfig(folder, subjects=subjects, seed=seed, processes=processes))
    typer.echo(f"lists are in {made}")


@app.command()
@needs("train")
def train(
    train_list: Annotated[Path, typer.Argument(help="List file to train on.")],
    val_list: Annotated[
        Path, typer.Argument(help="List file of other subjects, for model selection.")
    ],
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to write.")],
    fusion: Annotated[
        str,
        typer.Option(help="`multi` is mmfCNN; its peers are `one`, `halfway`, `early`, `feather`."),
    ] = "multi",
    views: Annotated[
        str, typer.Option(help="Inputs, comma-separated: some of rgb, depth, ir, hsv, ycbcr.")
    ] = "rgb,depth,ir",
    depth: Annotated[int, typer.Option(help="Layers of the ResNet branches: 18 or 34.")] = 34,
    width: Annotated[float, typer.Option(help="Factor on all channel counts.")] = 1.0,
    size: Annotated[int, typer.Option(help="Side of the network's input, px.")] = 112,
    gate: Annotated[str, typer.Option(help="Form of the gate: `paper` or `released`.")] = "paper",
    depth_mode: Annotated[
        str, typer.Option(help="`face_filled` for depth in mm, `casia8` for CASIA-SURF's 8 bits.")
    ] = "face_filled",
    abc: Annotated[
        str, typer.Option(help="Average Binary Center loss: `batch`, `centre` or `none`.")
    ] = "batch",
    dropout: Annotated[
        float,
        typer.Option(min=0, max=1, help="Probability that a sample loses one or two modalities."),
    ] = 0.8,
    blinding: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that one of its planes shows nothing.")
    ] = 0.15,
    covering: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that a part of the face is hidden.")
    ] = 0.5,
    epochs: Annotated[int, typer.Option(min=1, help="Largest number of epochs.")] = 101,
    patience: Annotated[
        int, typer.Option(min=1, help="Epochs without a better val loss before training stops.")
    ] = 15,
    batch: Annotated[int, typer.Option(min=2, help="Samples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=1e-6, help="Initial learning rate.")] = 0.01,
    decay: Annotated[
        float, typer.Option(min=0.01, max=1, help="Factor on the rate after each epoch.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random number.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    about: Annotated[str, typer.Option(help="Training data and its licence, for the bundle.")] = "",
) -> None:
    """Train on CASIA-SURF style list files and write a model bundle.

    After an interruption, the same command continues the run.
    """
    from model.data.augmentation import Chances
    from model.network.mmfcnn import NetworkConfig
    from model.runs.progress import shown
    from model.training.curves import write_curves
    from model.training.training import TrainingConfig
    from model.training.training import train as run

    config = TrainingConfig(
        train=train_list,
        val=val_list,
        bundle=bundle,
        network=NetworkConfig(
            views=tuple(views.split(",")),
            depth=depth,
            width=width,
            size=size,
            fusion=fusion,  # type: ignore[arg-type] # checked by NetworkConfig
            gate=gate,  # type: ignore[arg-type]
            depth_mode=depth_mode,  # type: ignore[arg-type]
        ),
        abc=abc,  # type: ignore[arg-type] # checked by TrainingConfig
        chances=Chances(dropout, blinding, covering),
        epochs=epochs,
        patience=patience,
        batch=batch,
        learning_rate=learning_rate,
        decay=decay,
        seed=seed,
        threads=threads,
        about=about,
    )
    done = []
    with shown("training", epochs) as advance:
        for epoch in run(config, advance=advance):
            done.append(epoch)
            typer.echo(
                f"epoch {epoch.number:3d}  loss {epoch.train_loss:.4f}  val {epoch.val_loss:.4f}  "
                f"APCER {epoch.apcer:.4f}  BPCER {epoch.bpcer:.4f}  ACER {epoch.acer:.4f}"
            )
    typer.echo(f"bundle: {bundle}")
    curves = bundle.with_name(f"{bundle.name}.training") / "curves.png"
    write_curves(done, curves)
    typer.echo(f"curves: {curves}")


@app.command()
@needs("train")
def evaluate(
    list_file: Annotated[Path, typer.Argument(help="List file of subjects not trained on.")],
    bundle: _BundleName = "rendered-small",
    report: Annotated[
        Path | None,
        typer.Option(help="Folder to write: scores, curves, an HTML page (extra `report`)."),
    ] = None,
) -> None:
    """Print a bundle's error rates on a list file, with intervals, as JSON."""
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
    with shown("evaluating", 7) as advance:
        evaluation = run(judged, dataset, advance)
    if report is not None:
        command = shlex.join(["livegate", *sys.argv[1:]])
        write_report(evaluation, report, title=list_file.name, command=command)
    typer.echo(json.dumps(evaluation.figures, indent=1))


@app.command()
@needs("train")
def audit(
    list_file: Annotated[Path, typer.Argument(help="List file of the data to audit.")],
    bundle: Annotated[
        str | None, typer.Option(help="Also audit a bundle's decisions on this data.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Side of the crops measured, px.")] = 112,
    max_auc: Annotated[
        float, typer.Option(min=0.5, max=1, help="A figure that tells more is a finding.")
    ] = 0.65,
    samples: Annotated[
        int, typer.Option(min=1, help="Bona fide, and attacks, that a bundle is tried on.")
    ] = 400,
    picture: Annotated[Path | None, typer.Option(help="PNG of the table.")] = None,
) -> None:
    """Look for what tells classes apart without being the attack; exit 1 if there is any.

    Prints the AUC of simple figures (holes, noise, brightness, framing, file sizes) for each
    species, and for a bundle what changed frames do to its error rates.
    """
    from model.data.readers import read_samples
    from model.evaluation import perturbation
    from model.evaluation.audit import audit as run
    from model.serving.bundle import find_bundle, load_bundle

    found = run(list_file, size, max_auc)
    typer.echo(found.table())
    told = found.findings()
    if picture is not None:
        from model.evaluation.audit_picture import write_picture

        write_picture(found, picture, title=list_file.name)
    if bundle is not None:
        judged = load_bundle(find_bundle(bundle))
        faces = perturbation.read_faces(read_samples(list_file), samples)
        outcomes = perturbation.outcomes(judged, faces, perturbation.PERTURBATIONS)
        typer.echo("\n" + perturbation.table(outcomes))
        told += perturbation.findings(outcomes, perturbation.PERTURBATIONS)
    typer.echo("\n" + "\n".join([f"findings: {len(told)}", *told]))
    if told:
        raise typer.Exit(code=1)


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
) -> None:
    """Set a bundle's thresholds for a target error rate; refused if the sample can't show it."""
    from dataclasses import replace

    from model.data.dataset import load_dataset
    from model.evaluation.calibration import Target
    from model.evaluation.calibration import calibrate as run
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
    required = None if require is None else tuple(filter(None, require.split(",")))
    with shown("calibrating", 7) as advance:
        made = run(old, dataset, target, rate, confidence, required, advance)
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
    from model.serving.engine import Engine
    from model.serving.judgement import judge as run

    given = {"rgb": rgb, "depth": depth, "ir": ir}
    files = {name: file for name, file in given.items() if file is not None}
    if not files:
        raise UserError("give at least one of --rgb, --depth and --ir")
    engine = Engine(load_bundle(find_bundle(bundle)))
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


@app.command()
@needs("train")
def ablate(
    train_list: Annotated[Path, typer.Argument(help="List file to train on.")],
    val_list: Annotated[Path, typer.Argument(help="List file for model selection.")],
    test_list: Annotated[Path, typer.Argument(help="List file to compare on.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the runs; existing ones are kept.")],
    variants: Annotated[str | None, typer.Option(help="Comma-separated; all if not given.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings of each variant.")] = 3,
    depth: Annotated[int, typer.Option(help="Layers of the ResNet branches: 18 or 34.")] = 18,
    width: Annotated[float, typer.Option(help="Factor on all channel counts.")] = 0.25,
    size: Annotated[int, typer.Option(help="Side of the networks' input, px.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Largest number of epochs.")] = 5,
    batch: Annotated[int, typer.Option(min=2, help="Samples per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=1e-6, help="Initial learning rate.")] = 0.05,
    decay: Annotated[
        float, typer.Option(min=0.01, max=1, help="Factor on the rate after each epoch.")
    ] = 0.5,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of networks trained in parallel.")
    ] = 2,
) -> None:
    """Train mmfCNN, its parts and its peers alike, and print the table that compares them."""
    from model.network.mmfcnn import NetworkConfig
    from model.runs.progress import shown
    from model.training.ablation import VARIANTS, AblationConfig, missing_runs
    from model.training.ablation import ablate as run
    from model.training.training import TrainingConfig

    recipe = TrainingConfig(
        train=train_list,
        val=val_list,
        bundle=folder,
        network=NetworkConfig(depth=depth, width=width, size=size),
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        decay=decay,
        threads=1,
    )
    names = tuple(VARIANTS) if variants is None else tuple(variants.split(","))
    config = AblationConfig(recipe, test_list, folder, names, tuple(range(seeds)), processes)
    with shown("training", len(missing_runs(config))) as advance:
        for name in run(config):
            advance(1)
            typer.echo(f"{name} done", err=True)
    typer.echo((folder / "table.md").read_text(encoding="utf-8"))
