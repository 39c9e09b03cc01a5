"""The console in a real browser, over a real server; and who may see it."""

import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.workers.console.site import Fleet, serving

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def fleet(valkey_url: str) -> Iterator[Fleet]:
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    fleet, stop = Fleet(valkey_url, 40), threading.Event()
    fleet.past(120)
    playing = threading.Thread(target=fleet.play, args=(20, stop))
    playing.start()
    yield fleet
    stop.set()
    playing.join()


@pytest.fixture(scope="module")
def address(fleet: Fleet) -> Iterator[str]:
    with serving(fleet.url) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    binary = shutil.which("chromium")
    if binary is None:
        tell = pytest.fail if os.environ.get("CI") else pytest.skip
        tell("no chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_function("document.querySelectorAll('.tile').length === 40")
    yield page
    assert complaints == []
    context.close()


def test_each_camera_has_a_tile_in_its_order(page: Any) -> None:
    names = page.locator(".tile .name").all_inner_texts()
    assert names[:3] == ["depot-gate-1", "depot-gate-2", "depot-gate-3"]
    assert names.index("depot-gate-9") < names.index("depot-gate-10")
    assert page.locator("#num-cameras").inner_text() == "40"


def test_it_goes_on_beyond_the_end_of_a_stream(page: Any) -> None:
    """The server ends each stream of updates after 8 s."""
    page.wait_for_function("performance.getEntriesByName(location.href + 'updates').length >= 2")
    page.wait_for_function("document.querySelector('#link-text').textContent === 'live'")


def test_it_tells_what_is_wrong_with_cameras(page: Any) -> None:
    page.wait_for_selector('.tile[data-health="silent"]')
    page.click('[data-filter="silent"]')
    assert page.locator(".tile:visible .name").all_inner_texts() == [_named(19)]
    assert page.locator(".tile:visible .health").inner_text().startswith("silent since ")
    page.click('[data-filter="clock"]')
    page.wait_for_selector('.tile[data-health="clock"]')
    assert set(page.locator(".tile:visible .name").all_inner_texts()) == {_named(13), _named(38)}
    assert "need attention" in page.locator("#verdict").inner_text()


def _named(number: int) -> str:
    return f"{('north', 'east', 'depot', 'hq')[number % 4]}-gate-{number // 4 + 1}"


def test_it_can_be_used_by_keyboard_alone(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("east-gate-2")
    page.wait_for_function(
        "[...document.querySelectorAll('#tiles li')].filter((li) => !li.hidden).length === 1"
    )
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#history tbody tr")
    assert page.locator("#camera-name").inner_text() == "east-gate-2"
    page.keyboard.press("Escape")
    assert not page.locator("#camera").is_visible()
    page.fill("#find", "")
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.querySelector('.name').textContent") == (
        "depot-gate-2"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_finds_nothing(page: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector('.tile[data-health="silent"]')
    assert _findings(axe.run(page)) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".tile").first.click()
    page.wait_for_selector("#history tbody tr")
    assert _findings(axe.run(page)) == []


def _findings(results: Any) -> list[tuple[str, list[str]]]:
    return [
        (each["id"], [node["html"][:120] for node in each["nodes"]][:3])
        for each in results.response["violations"]
    ]


def test_the_page_loads_nothing_from_elsewhere(page: Any, address: str) -> None:
    names = page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert names
    assert all(name.startswith(address) for name in names)


class TestWhoMaySee:
    def test_without_a_token_only_this_machine(self, address: str) -> None:
        assert get(address) == 200
        # Led here by a name of its own, or by a proxy: not somebody on this machine.
        assert get(address, Host="livegate.example") == 403
        assert get(address, **{"X-Forwarded-For": "192.0.2.1"}) == 403
        assert get(address + "updates", Host="livegate.example:8000") == 403

    def test_with_a_token_whoever_has_it(self, fleet: Fleet, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text("open sesame\n")
        with serving(fleet.url, token) as address:
            for path in ("", "updates", "history?camera=north-gate-1", "console.js"):
                assert get(address + path) == 401, path
                assert get(address + path, Authorization="Bearer wrong") == 401
            bearer = {"Authorization": "Bearer open sesame"}
            assert get(address + "history?camera=north-gate-1", **bearer) == 200
            assert get(address, Host="livegate.example", **bearer) == 200
            token.write_text("another one\n")  # taken up without a restart
            assert get(address, **bearer) == 401

    def test_the_form_gives_a_cookie_that_is_not_the_token(
        self, fleet: Fleet, browser: Any, tmp_path: Path
    ) -> None:
        token = tmp_path / "token"
        token.write_text("open sesame\n")
        with serving(fleet.url, token) as address:
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            page.fill("#token", "wrong")
            page.click("button")
            assert page.locator("#token").is_visible()
            page.fill("#token", "open sesame")
            page.click("button")
            page.wait_for_selector(".tile")
            (cookie,) = context.cookies()
            assert "sesame" not in cookie["value"]
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
            context.close()

    @pytest.mark.parametrize("path", ["../app.py", "%2e%2e/console.py", "uplot.LICENSE", "x.js"])
    def test_nothing_but_its_parts_is_given_out(self, address: str, path: str) -> None:
        assert get(address + path) == 404

    def test_a_camera_that_is_none_is_refused(self, address: str) -> None:
        assert get(address + "history?camera=a%20b") == 400


def get(address: str, **headers: str) -> int:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
