"""Dashboards: what is pushed, what is left alone, and how a Grafana that can't is told."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.commands import main as cli
from deploy.watch.dashboards import dashboards
from deploy.watch.grafana import Address, GrafanaError, annotate, push, write_provisioning
from deploy.watch.rules import Metrics
from tests.deploy.watch.grafana_stub import TOKEN, grafana

WANTED = dashboards(Metrics())


@pytest.mark.parametrize("prefix", ["", "/grafana"])
def test_what_is_as_it_should_be_is_left_alone(prefix: str) -> None:
    with grafana(prefix) as stub:
        first = push(stub.url, TOKEN, "Prometheus", WANTED)
        assert set(first.values()) == {"created"}
        assert len(stub.dashboards) == len(WANTED)
        assert stub.folders == {"livegate": "Livegate"}
        stub.calls.clear()
        assert set(push(f"{stub.url}/", TOKEN, "Prometheus", WANTED).values()) == {"unchanged"}
        assert stub.writes == []


def test_what_somebody_changed_is_put_right_and_nothing_else() -> None:
    with grafana() as stub:
        push(stub.url, TOKEN, "Prometheus", WANTED)
        stub.dashboards["livegate-fleet"]["title"] = "mine"
        stub.calls.clear()
        found = push(stub.url, TOKEN, "Prometheus", WANTED)
        assert [title for title, change in found.items() if change != "unchanged"] == [
            "Livegate: fleet"
        ]
        assert stub.writes == ["POST /api/dashboards/db"]
        assert stub.dashboards["livegate-fleet"]["version"] == 2


def test_a_dry_run_changes_nothing() -> None:
    with grafana() as stub:
        found = push(stub.url, TOKEN, "Prometheus", WANTED, dry_run=True)
        assert set(found.values()) == {"created"}
        assert stub.writes == []


def test_a_data_source_is_found_by_its_name() -> None:
    with grafana() as stub:
        stub.sources["Prometheus / door 1"] = "prometheus"
        push(stub.url, TOKEN, "Prometheus / door 1", WANTED)
        model = stub.dashboards["livegate-fleet"]
        source = model["templating"]["list"][0]
        assert source["current"]["value"] == "uid-Prometheus / door 1"


def test_a_moment_is_marked() -> None:
    with grafana() as stub:
        annotate(stub.url, TOKEN, "rendered-small -> site-7", ["swap"], 1_700_000_000_000)
        assert stub.annotations == [
            {
                "text": "rendered-small -> site-7",
                "time": 1_700_000_000_000,
                "tags": ["livegate", "swap"],
            }
        ]


PAGE = "<html><body>There was a problem, the message was lost</body></html>"


@pytest.mark.parametrize(
    ("status", "page", "told"),
    [
        (200, PAGE, "something else than JSON"),
        (204, "", "something else than JSON"),
        (502, PAGE, "answers with a page"),
        (503, "<html>down</html>", "Server Error 503"),
        (404, PAGE, "answers with a page"),
        (404, "<html>nobody here</html>", "answers with a page"),
        (400, PAGE, "answers with a page"),
        (200, "[]", "answers with a list"),
        (500, '{"message": "database is locked"}', "database is locked"),
        (403, '{"message": "Access denied"}', "needs the role Editor"),
    ],
)
def test_what_is_no_answer_is_told_in_a_line(status: int, page: str, told: str) -> None:
    with grafana() as stub:
        stub.broken = (status, page)
        with pytest.raises(GrafanaError, match=told) as found:
            push(stub.url, TOKEN, "Prometheus", WANTED)
        assert len(str(found.value).splitlines()) == 1


def test_a_wrong_token_is_told_and_not_shown() -> None:
    with grafana() as stub, pytest.raises(GrafanaError, match="needs the role Editor") as found:
        push(stub.url, "glsa_wrong", "Prometheus", WANTED)
    assert "glsa" not in str(found.value)


def test_a_data_source_that_is_not_there_or_of_another_kind_is_told() -> None:
    with grafana() as stub:
        stub.sources["Loki"] = "loki"
        with pytest.raises(GrafanaError, match="no data source named 'Mimir'"):
            push(stub.url, TOKEN, "Mimir", WANTED)
        with pytest.raises(GrafanaError, match="is of type loki"):
            push(stub.url, TOKEN, "Loki", WANTED)
        assert stub.writes == []


def test_a_grafana_that_is_not_there_is_told() -> None:
    with pytest.raises(GrafanaError, match="can't be reached"):
        push("http://127.0.0.1:1", TOKEN, "Prometheus", WANTED)


@pytest.mark.parametrize(
    "url", ["grafana", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x?a=b"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(GrafanaError, match="--url"):
        Address.of(url)


def test_the_command_pushes_and_writes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with grafana() as stub:
        monkeypatch.setenv("LIVEGATE_GRAFANA_TOKEN", TOKEN)
        args = ["deploy", "dashboards", "--url", stub.url]
        made = CliRunner().invoke(cli.app, [*args, "--dry-run"])
        assert "would be created: Livegate: fleet" in made.output
        assert "created: Livegate: one camera" in CliRunner().invoke(cli.app, args).output
        marked = CliRunner().invoke(cli.app, ["deploy", "annotate", "x", "--url", stub.url])
        assert marked.output == "marked\n"
    out = CliRunner().invoke(cli.app, ["deploy", "dashboards", "--out", str(tmp_path / "g")])
    assert out.exit_code == 0, out.output
    assert len(list((tmp_path / "g").glob("*.json"))) == len(WANTED)


def test_panels_do_not_overlap_and_have_numbers_of_their_own(tmp_path: Path) -> None:
    for path in write_provisioning(tmp_path, WANTED)[1:]:
        panels = json.loads(path.read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not taken & cells, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells
