"""The model engineer's commands that train: train, ablate, domains.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.extras import needs

app = typer.Typer()

_TrainList = Annotated[Path, typer.Argument(help="List file to train on.")]
_ValList = Annotated[Path, typer.Argument(help="List file of other subjects, for model selection.")]
_Folder = Annotated[Path, typer.Argument(help="Folder of the runs; existing ones are kept.")]
_Depth = Annotated[int, typer.Option(help="Layers of the ResNet branches: 18 or 34.")]
_Width = Annotated[float, typer.Option(help="Factor on all channel counts.")]
_Size = Annotated[int, typer.Option(help="Side of the network's input, px.")]
_Epochs = Annotated[int, typer.Option(min=1, help="Largest number of epochs.")]
_Batch = Annotated[int, typer.Option(min=2, help="Samples per step.")]
_Optimiser = Annotated[str, typer.Option(help="`sgd` or `adamw`.")]
_LearningRate = Annotated[float, typer.Option(min=1e-6, help="Initial learning rate.")]
_Decay = Annotated[
    float, typer.Option(min=0.01, max=1, help="Factor on the rate after each epoch.")
]
_Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


@app.command()
@needs("train")
def train(
    train_list: _TrainList,
    val_list: _ValList,
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to write.")],
    fusion: Annotated[
        str,
        typer.Option(
            help="`evidence` sums log odds; `multi` is the paper's mmfCNN; other forms and peers: "
            "`stacked`, `heads`, `one`, `halfway`, `early`, `feather`."
        ),
    ] = "multi",
    views: Annotated[
        str, typer.Option(help="Inputs, comma-separated: some of rgb, depth, ir, hsv, ycbcr.")
    ] = "rgb,depth,ir",
    depth: _Depth = 34,
    width: _Width = 1.0,
    size: _Size = 112,
    gate: Annotated[str, typer.Option(help="Form of the gate: `paper` or `released`.")] = "paper",
    depth_mode: Annotated[
        str, typer.Option(help="`face_filled` for depth in mm, `casia8` for CASIA-SURF's 8 bits.")
    ] = "face_filled",
    abc: Annotated[
        str, typer.Option(help="Average Binary Center loss: `batch`, `centre` or `none`.")
    ] = "batch",
    matching: Annotated[
        float, typer.Option(min=0, help="Weight of the loss of each pair of planes.")
    ] = 0.5,
    dropout: Annotated[
        float,
        typer.Option(min=0, max=1, help="Probability that a sample loses one or two modalities."),
    ] = 0.5,
    blinding: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that one of its planes shows nothing.")
    ] = 0.15,
    covering: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that a part of the face is hidden.")
    ] = 0.5,
    composing: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Probability that bona fide is made an attack: foreign planes, ..."
        ),
    ] = 0.5,
    holes: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that holes in depth are changed.")
    ] = 0.3,
    jitter: Annotated[
        float, typer.Option(min=0, max=0.25, help="Part of its side that a face box is moved by.")
    ] = 0.15,
    epochs: _Epochs = 101,
    patience: Annotated[
        int, typer.Option(min=1, help="Epochs without a better val loss before training stops.")
    ] = 15,
    batch: _Batch = 128,
    optimiser: _Optimiser = "sgd",
    learning_rate: _LearningRate = 0.01,
    decay: _Decay = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random number.")] = 0,
    threads: _Threads = 2,
    about: Annotated[str, typer.Option(help="Training data and its licence, for the bundle.")] = "",
) -> None:
    """Train on CASIA-SURF style list files and write a model bundle.

    After an interruption, the same command continues the run.
    """
    from model.data.augmentation import Chances
    from model.network.config import NetworkConfig
    from model.runs.progress import shown
    from model.training.curves import write_curves
    from model.training.recipe import TrainingConfig
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
        matching=matching,
        chances=Chances(
            dropout, blinding, covering, composing, holes=holes, shift=jitter, zoom=jitter
        ),
        epochs=epochs,
        patience=patience,
        batch=batch,
        optimiser=optimiser,  # type: ignore[arg-type]
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
def ablate(
    train_list: _TrainList,
    val_list: _ValList,
    test_list: Annotated[Path, typer.Argument(help="List file to compare on.")],
    folder: _Folder,
    variants: Annotated[str | None, typer.Option(help="Comma-separated; all if not given.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings of each variant.")] = 3,
    depth: _Depth = 18,
    width: _Width = 0.25,
    size: _Size = 64,
    epochs: _Epochs = 5,
    batch: _Batch = 64,
    optimiser: _Optimiser = "adamw",
    learning_rate: _LearningRate = 0.002,
    decay: _Decay = 0.5,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of networks trained in parallel.")
    ] = 2,
    composites: Annotated[
        str, typer.Option(help="Attacks that are made of the test list's bona fide, besides.")
    ] = "split,covered,shifted,invented",
) -> None:
    """Train mmfCNN, its parts and its peers alike, and print the table that compares them."""
    from model.network.config import NetworkConfig
    from model.runs.progress import shown
    from model.training.ablation import VARIANTS, AblationConfig, missing_runs
    from model.training.ablation import ablate as run
    from model.training.recipe import TrainingConfig

    recipe = TrainingConfig(
        train=train_list,
        val=val_list,
        bundle=folder,
        network=NetworkConfig(depth=depth, width=width, size=size),
        epochs=epochs,
        batch=batch,
        optimiser=optimiser,  # type: ignore[arg-type] # checked by TrainingConfig
        learning_rate=learning_rate,
        decay=decay,
        threads=1,
    )
    names = tuple(VARIANTS) if variants is None else tuple(variants.split(","))
    config = AblationConfig(
        recipe,
        test_list,
        folder,
        names,
        tuple(range(seeds)),
        processes,
        composites=tuple(filter(None, composites.split(","))),
    )
    with shown("training", len(missing_runs(config))) as advance:
        for name in run(config):
            advance(1)
            typer.echo(f"{name} done", err=True)
    typer.echo((folder / "table.md").read_text(encoding="utf-8"))


@app.command()
@needs("train")
def domains(
    folder: _Folder,
    cefa: Annotated[
        tuple[Path, Path] | None, typer.Option(help="CeFA: training list, test list.")
    ] = None,
    padisi: Annotated[
        tuple[Path, Path] | None, typer.Option(help="PADISI-Face: training part, test part.")
    ] = None,
    casia_surf: Annotated[
        tuple[Path, Path] | None, typer.Option(help="CASIA-SURF: training list, test list.")
    ] = None,
    wmca: Annotated[
        tuple[Path, Path] | None, typer.Option(help="WMCA: training list, test list.")
    ] = None,
    protocols: Annotated[str, typer.Option(help="Comma-separated: some of 1, 2, 3.")] = "1,2,3",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read all lists and say what would be run.")
    ] = False,
    fusion: Annotated[str, typer.Option(help="As for `livegate train`.")] = "evidence",
    depth: _Depth = 18,
    width: _Width = 0.25,
    size: _Size = 112,
    epochs: _Epochs = 12,
    learning_rate: _LearningRate = 0.002,
    decay: _Decay = 0.7,
    threads: _Threads = 2,
) -> None:
    """Train on some data sets and test on another: MMDG's protocols, for whoever has the licences.

    Each data set is read in place, as it is distributed; those that are not given are left out.
    """
    from model.network.config import NetworkConfig
    from model.runs.progress import shown
    from model.training.domains import DomainConfig, plan
    from model.training.domains import run as run_all
    from model.training.recipe import TrainingConfig

    network = NetworkConfig(
        depth=depth,
        width=width,
        size=size,
        fusion=fusion,  # type: ignore[arg-type] # checked by NetworkConfig
        depth_mode="casia8",
    )
    recipe = TrainingConfig(
        train=folder,
        val=folder,
        bundle=folder,
        network=network,
        abc="none",
        optimiser="adamw",
        epochs=epochs,
        batch=64,
        learning_rate=learning_rate,
        decay=decay,
        threads=threads,
    )
    given = {"C": cefa, "P": padisi, "S": casia_surf, "W": wmca}
    lists = {letter: paths for letter, paths in given.items() if paths is not None}
    config = DomainConfig(recipe, lists, folder, tuple(filter(None, protocols.split(","))))
    if dry_run:
        typer.echo(plan(config))
        return
    with shown("training", len(config.trainings)) as advance:
        for sources in run_all(config):
            advance(1)
            typer.echo(f"{sources} done", err=True)
    typer.echo((folder / "table.md").read_text(encoding="utf-8"))
