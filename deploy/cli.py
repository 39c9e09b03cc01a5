"""The `livegate` command."""

import json
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    name="livegate",
    help="Face presentation attack detection for access-control cameras.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Face presentation attack detection for access-control cameras."""


@app.command()
def demo(
    seconds: Annotated[
        float, typer.Option(envvar="DEMO_S", min=0, help="How long cameras send; 0: until Ctrl-C.")
    ] = 30,
) -> None:
    """Run a whole deployment on this machine with 8 simulated cameras, and account for it.

    The last line printed is one JSON object with what became of every frame.
    """
    from deploy.demo import run_demo  # noqa: PLC0415 - `livegate --help` should not load Ray

    account = run_demo(seconds, Console())
    typer.echo(json.dumps(account))
    if account["lost"] or account["duplicates"]:
        raise typer.Exit(code=1)
