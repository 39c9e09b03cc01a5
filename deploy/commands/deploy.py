"""`livegate deploy`: what a cluster is given, and what watches it."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands import acl
from deploy.commands.extras import needs

app = typer.Typer(name="deploy", help="What a cluster is given.", no_args_is_help=True)
app.command()(acl.acl)

Config = Annotated[
    Path | None, typer.Option(help="Serve config; the shipped ray_config.yaml if not given.")
]
Selector = Annotated[
    str,
    typer.Option(
        help='Label matchers of this deployment, such as namespace="door", where one Prometheus '
        "watches several."
    ),
]


@app.command()
@needs("serve")
def rules(
    config: Config = None,
    out: Annotated[Path | None, typer.Option(help="File; the terminal, if none.")] = None,
    selector: Selector = "",
) -> None:
    """Write Prometheus' rules: objectives, their alerts, and all other alerts.

    Check them with `promtool check rules FILE`; deploy/README.md has a runbook for each alert.
    """
    from deploy.local.config import CONFIG, load_config
    from deploy.watch.rules import Metrics, render_rules

    deadline_s = load_config(config or CONFIG).settings.deadline_ms / 1000
    content = render_rules(Metrics(selector), deadline_s)
    if out is None:
        typer.echo(content, nl=False)
        return
    out.write_text(content, encoding="utf-8")
    typer.echo(f"wrote {out}; in prometheus.yml: rule_files: [{out.resolve()}]")
