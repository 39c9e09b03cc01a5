"""What a model engineer types: render, audit, train, evaluate, calibrate, ablate.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.extras import needs
from deploy.errors import DeployError

app = typer.Typer()

_BundleName = Annotated[str, typer.Option(help="Bundle: a folder, or one that is shipped.")]


class UserError(DeployError):
    """Something that the person at the keyboard can mend; the message says how."""


@app.command()
@needs("render")
def render(
    folder: Annotated[Path, typer.Argument(help="Where to; what is there is not rendered again.")],
    subjects: Annotated[
        tuple[int, int, int], typer.Option(help="Subjects in train, val and test.")
    ] = (600, 40, 300),
    seed: Annotated[
        int,
        typer.Option(min=0, help="Of pose, light, sensors and pictures; people are their numbers."),
    ] = 1,
    processes: Annotated[int, typer.Option(min=1, help="How many render at once.")] = 2,
) -> None:
    """Render a data set of bona fide and attack presentations (needs the extra `render`)."""
    from model.render.dataset import RenderConfig, render_dataset

    made = render_dataset(RenderConfig(folder, subjects=subjects, seed=seed, processes=processes))
    typer.echo(f"lists are in {made}")


@app.command()
@needs("train")
def train(
    train_list: Annotated[Path, typer.Argument(help="List file to train on.")],
    val_list: Annotated[Path, typer.Argument(help="List file of other subjects.")],
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to write.")],
    fusion: Annotated[
        str,
        typer.Option(help="`multi` is mmfCNN; or `one`, `halfway`, `early`, `feather`: its peers."),
    ] = "multi",
    views: Annotated[
        str, typer.Option(help="Comma-separated: some of rgb, depth, ir, hsv, ycbcr.")
    ] = "rgb,depth,ir",
    depth: Annotated[int, typer.Option(help="Of the ResNet branches: 18 or 34.")] = 34,
    width: Annotated[float, typer.Option(help="Factor on all channel counts.")] = 1.0,
    size: Annotated[int, typer.Option(help="Side of the network's input, px.")] = 112,
    gate: Annotated[str, typer.Option(help="`paper` or `released`.")] = "paper",
    depth_mode: Annotated[
        str, typer.Option(help="`face_filled` for depth in mm, `casia8` for CASIA-SURF's 8 bits.")
    ] = "face_filled",
    abc: Annotated[
        str, typer.Option(help="Average Binary Center loss: `batch`, `centre` or `none`.")
    ] = "batch",
    dropout: Annotated[
        float, typer.Option(min=0, max=1, help="Chance that a sample loses a modality or two.")
    ] = 0.8,
    blinding: Annotated[
        float, typer.Option(min=0, max=1, help="Chance that one of its planes shows nothing.")
    ] = 0.15,
    covering: Annotated[
        float, typer.Option(min=0, max=1, help="Chance that a part of the face is hidden.")
    ] = 0.5,
    epochs: Annotated[int, typer.Option(min=1)] = 101,
    patience: Annotated[
        int, typer.Option(min=1, help="Stop after so many epochs without a better val loss.")
    ] = 15,
    batch: Annotated[int, typer.Option(min=2)] = 128,
    learning_rate: Annotated[float, typer.Option(min=1e-6)] = 0.01,
    decay: Annotated[float, typer.Option(min=0.01, max=1, help="Of the rate, an epoch.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    about: Annotated[str, typer.Option(help="Training data and its licence.")] = "",
) -> None:
    """Train on CASIA-SURF style list files and write a model bundle.

    An interrupted run goes on where it stood when the same command is given again.
    """
    from model.data.dataset import Chances
    from model.network.mmfcnn import NetworkConfig
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
        abc=abc,  # type: ignore[arg-type] # checked by the loss
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
    for epoch in run(config):
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
        typer.Option(help="Folder for scores, curves and an HTML page (extra `report`)."),
    ] = None,
) -> None:
    """Print a bundle's error rates on a list file, with intervals, as JSON."""
    from model.data.dataset import load_dataset
    from model.evaluation.evaluation import evaluate as run
    from model.serving.bundle import find_bundle, load_bundle

    if report is not None:
        if report.exists():
            raise FileExistsError(f"{report} exists: choose another name for the report")
        from model.evaluation.report import write_report
    judged = load_bundle(find_bundle(bundle))
    evaluation = run(judged, load_dataset(list_file, judged.config.size))
    if report is not None:
        write_report(evaluation, report, title=list_file.name)
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
    list_file: Annotated[Path, typer.Argument(help="List file of the site, or of its like.")],
    new_bundle: Annotated[Path, typer.Argument(help="Folder of the new version to write.")],
    bundle: _BundleName = "rendered-small",
    apcer: Annotated[
        float | None, typer.Option(help="Target: the worst species' APCER, such as 0.01.")
    ] = None,
    bpcer: Annotated[float | None, typer.Option(help="Or: BPCER, such as 0.02.")] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999)] = 0.95,
) -> None:
    """Set a bundle's thresholds for a target error rate; refused if the sample can't show it."""
    from dataclasses import replace

    from model.data.dataset import load_dataset
    from model.evaluation.calibration import calibrate as run
    from model.serving.bundle import find_bundle, load_bundle, save_bundle

    if (apcer is None) == (bpcer is None):
        raise UserError("give one target: either --apcer or --bpcer")
    if new_bundle.exists():
        raise FileExistsError(f"{new_bundle} exists: choose another name for the new version")
    old = load_bundle(find_bundle(bundle))
    target, rate = ("apcer", apcer) if apcer is not None else ("bpcer", bpcer)
    dataset = load_dataset(list_file, old.config.size)
    made = run(old, dataset, target, rate or 0.0, confidence)  # type: ignore[arg-type]
    save_bundle(replace(made, name=new_bundle.name), new_bundle)
    for modalities, threshold in made.thresholds.items():
        found = threshold.calibration
        typer.echo(
            f"{modalities:14s} threshold {threshold.value:.4f}  "
            f"APCER {found['apcer']:.4f} (at most {found['apcer_upper']:.4f}, "
            f"{found['worst_species']})  BPCER {found['bpcer']:.4f} "
            f"(at most {found['bpcer_upper']:.4f})"
        )
    typer.echo(f"bundle: {new_bundle}; other sets of modalities get no_decision")


@app.command()
@needs("train")
def ablate(
    train_list: Annotated[Path, typer.Argument(help="List file to train on.")],
    val_list: Annotated[Path, typer.Argument(help="List file to stop on.")],
    test_list: Annotated[Path, typer.Argument(help="List file to compare on.")],
    folder: Annotated[Path, typer.Argument(help="Where the runs go; those there are kept.")],
    variants: Annotated[
        str | None, typer.Option(help="Comma-separated; all of them if not given.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each variant is trained so often.")] = 3,
    depth: Annotated[int, typer.Option(help="Of the ResNet branches: 18 or 34.")] = 18,
    width: Annotated[float, typer.Option(help="Factor on all channel counts.")] = 0.25,
    size: Annotated[int, typer.Option(help="Side of the networks' input, px.")] = 64,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    learning_rate: Annotated[float, typer.Option(min=1e-6)] = 0.05,
    decay: Annotated[float, typer.Option(min=0.01, max=1, help="Of the rate, an epoch.")] = 0.5,
    processes: Annotated[int, typer.Option(min=1, help="How many train at once.")] = 2,
) -> None:
    """Train mmfCNN, its parts and its peers alike, and print the table that compares them."""
    from model.network.mmfcnn import NetworkConfig
    from model.training.ablation import VARIANTS, AblationConfig
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
    for name in run(config):
        typer.echo(f"{name} done", err=True)
    typer.echo((folder / "table.md").read_text(encoding="utf-8"))
