"""What a model engineer types: render, train, evaluate.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

_BundleName = Annotated[str, typer.Option(help="Bundle: a folder, or one that is shipped.")]


class UserError(RuntimeError):
    """Something that the person at the keyboard can mend; the message says how."""


@app.command()
def render(
    folder: Annotated[Path, typer.Argument(help="Where to; what is there is not rendered again.")],
    subjects: Annotated[
        tuple[int, int, int], typer.Option(help="Subjects in train, val and test.")
    ] = (300, 40, 300),
    seed: Annotated[
        int,
        typer.Option(min=0, help="Of pose, light, sensors and pictures; people are their numbers."),
    ] = 1,
    processes: Annotated[int, typer.Option(min=1, help="How many render at once.")] = 2,
) -> None:
    """Render a data set of bona fide and attack presentations (needs the extra `render`)."""
    with _extra("render"):
        from model.render.dataset import RenderConfig, render_dataset

    made = render_dataset(RenderConfig(folder, subjects=subjects, seed=seed, processes=processes))
    typer.echo(f"lists are in {made}")


@app.command()
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
    gate: Annotated[str, typer.Option(help="`paper` or `released`.")] = "paper",
    depth_mode: Annotated[
        str, typer.Option(help="`face_relative` for depth in mm, `casia8` for CASIA-SURF's 8 bits.")
    ] = "face_relative",
    abc: Annotated[
        str, typer.Option(help="Average Binary Center loss: `batch`, `centre` or `none`.")
    ] = "batch",
    modality_dropout: Annotated[
        float, typer.Option(min=0, max=1, help="Chance that a sample loses a modality or two.")
    ] = 0.4,
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
    from model.network import NetworkConfig
    from model.training import TrainingConfig
    from model.training import train as run

    config = TrainingConfig(
        train=train_list,
        val=val_list,
        bundle=bundle,
        network=NetworkConfig(
            views=tuple(views.split(",")),
            depth=depth,
            width=width,
            fusion=fusion,  # type: ignore[arg-type] # checked by NetworkConfig
            gate=gate,  # type: ignore[arg-type]
            depth_mode=depth_mode,  # type: ignore[arg-type]
        ),
        abc=abc,  # type: ignore[arg-type] # checked by the loss
        modality_dropout=modality_dropout,
        epochs=epochs,
        patience=patience,
        batch=batch,
        learning_rate=learning_rate,
        decay=decay,
        seed=seed,
        threads=threads,
        about=about,
    )
    for epoch in run(config):
        typer.echo(
            f"epoch {epoch.number:3d}  loss {epoch.train_loss:.4f}  val {epoch.val_loss:.4f}  "
            f"APCER {epoch.apcer:.4f}  BPCER {epoch.bpcer:.4f}  ACER {epoch.acer:.4f}"
        )
    typer.echo(f"bundle: {bundle}")


@app.command()
def evaluate(
    list_file: Annotated[Path, typer.Argument(help="List file of subjects not trained on.")],
    bundle: _BundleName = "rendered-small",
) -> None:
    """Print a bundle's APCER and BPCER on a list file, with intervals, as JSON."""
    from model.bundle import find_bundle, load_bundle
    from model.dataset import load_dataset
    from model.evaluation import evaluate as run

    typer.echo(json.dumps(run(load_bundle(find_bundle(bundle)), load_dataset(list_file)), indent=1))


@contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is missing: install the extra, pip install 'livegate[{name}]'"
        ) from error
