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


Grafana = Annotated[
    str | None, typer.Option("--url", help="Of the Grafana: https://HOST:PORT/PREFIX.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="Token of a service account; LIVEGATE_GRAFANA_TOKEN, if not given."),
]


@app.command(name="dashboards")
@needs("serve")
def push_dashboards(
    url: Grafana = None,
    token_file: TokenFile = None,
    datasource: Annotated[str, typer.Option(help="Name of a Prometheus there.")] = "Prometheus",
    dry_run: Annotated[bool, typer.Option(help="Tell what would change.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write files for Grafana's provisioning instead.")
    ] = None,
    selector: Selector = "",
) -> None:
    """Make a Grafana have the dashboards; what is as it should be is left alone."""
    from deploy.watch.dashboards import dashboards
    from deploy.watch.grafana import push, read_token, write_provisioning
    from deploy.watch.rules import Metrics

    wanted = dashboards(Metrics(selector))
    if out is not None:
        for path in write_provisioning(out, wanted):
            typer.echo(f"wrote {path}")
        return
    if url is None:
        raise typer.BadParameter("name a Grafana with --url, or a folder with --out")
    found = push(url, read_token(token_file), datasource, wanted, dry_run=dry_run)
    for title, change in found.items():
        typer.echo(f"{'would be ' if dry_run and change != 'unchanged' else ''}{change}: {title}")


@app.command()
@needs("serve")
def annotate(
    text: Annotated[str, typer.Argument(help="What happened: a deploy, a swap.")],
    url: Grafana = None,
    token_file: TokenFile = None,
    tag: Annotated[list[str] | None, typer.Option(help="Beside `livegate`.")] = None,
) -> None:
    """Mark this moment on all dashboards."""
    import time

    from deploy.watch.grafana import annotate as mark
    from deploy.watch.grafana import read_token

    if url is None:
        raise typer.BadParameter("name a Grafana with --url")
    mark(url, read_token(token_file), text, tag or [], int(time.time() * 1000))
    typer.echo("marked")


@app.command()
@needs("serve")
def compose(
    out: Annotated[Path, typer.Option(help="Folder of the project; its files are replaced.")],
    image: Annotated[str, typer.Option(help="Of Livegate, built by deploy/cluster/Dockerfile.")],
    config: Config = None,
) -> None:
    """Write a Compose project for one machine: Redis, Livegate, Prometheus and Grafana."""
    from deploy.cluster.compose import SECRETS, write_project
    from deploy.local.config import CONFIG, load_config
    from deploy.watch.dashboards import dashboards
    from deploy.watch.grafana import write_provisioning
    from deploy.watch.rules import Metrics, render_rules

    loaded = load_config(config or CONFIG)
    rules = render_rules(Metrics(), loaded.settings.deadline_ms / 1000)
    written = write_project(out, loaded.path, image, rules)
    written += write_provisioning(out / "grafana", dashboards(Metrics()))
    for path in written:
        typer.echo(f"wrote {path}")
    missing = [path for path in SECRETS.values() if not (out / path).exists()]
    if missing:
        typer.echo(f"still to be put into {out}: {', '.join(missing)}")
