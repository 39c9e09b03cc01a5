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


@app.command()
@needs("cluster")
def render(
    out: Annotated[Path, typer.Option(help="Folder; its files of this name are replaced.")],
    values: Annotated[
        list[Path] | None,
        typer.Option(help="Values, and overlays after them; the shipped values.yaml, if none."),
    ] = None,
    config: Config = None,
    monitoring: Annotated[
        bool, typer.Option(help="With what the Prometheus operator takes: a monitor, and rules.")
    ] = True,
) -> None:
    """Write Kubernetes manifests for KubeRay, checked as `livegate deploy check` does."""
    from deploy.cluster.check import check_manifests
    from deploy.cluster.manifests import render_manifests, write_manifests
    from deploy.cluster.values import VALUES, load_values
    from deploy.local.config import CONFIG, load_config
    from deploy.watch.rules import Metrics, groups

    found = load_values(values or [VALUES])
    loaded = load_config(config or CONFIG)
    rules = None
    if monitoring:
        selector = Metrics(f'namespace="{found.namespace}"')
        rules = groups(selector, loaded.settings.deadline_ms / 1000)
    manifests = render_manifests(found, loaded.path, rules)
    num_checked = check_manifests(manifests)
    for path in write_manifests(manifests, out):
        typer.echo(f"wrote {path}")
    typer.echo(f"{num_checked} manifests checked; next: kubectl apply -f {out}")


@app.command()
@needs("cluster")
def check(
    files: Annotated[list[Path], typer.Argument(help="Manifests, or folders of them.")],
) -> None:
    """Check manifests as the API server and KubeRay would, without a cluster."""
    from deploy.cluster.check import check_manifests
    from deploy.cluster.manifests import read_manifests

    num_checked = check_manifests(read_manifests(files))
    typer.echo(f"{num_checked} manifests checked")
