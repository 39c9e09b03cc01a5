"""The model engineer's commands on data: render, audit.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.extras import needs

app = typer.Typer()


@app.command()
@needs("render")
def render(
    folder: Annotated[
        Path, typer.Argument(help="Folder to fill; finished subjects are not rendered again.")
    ],
    subjects: Annotated[
        tuple[int, int, int], typer.Option(help="Number of subjects in train, val and test.")
    ] = (1000, 100, 300),
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
