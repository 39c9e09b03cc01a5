"""Patience: what counts as progress, and what is told meanwhile."""

import io
import threading

import pytest
from rich.console import Console

from deploy.local import progress
from deploy.local.progress import Patience, step, tell_on


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_it_runs_out_when_nothing_changes_and_nobody_works(clock: Clock) -> None:
    patience = Patience(60, work_s=1.0)
    assert not patience.is_over("starting", 5.0)
    clock.now_s += 60
    assert not patience.is_over("starting", 5.5)
    clock.now_s += 1
    assert patience.is_over("starting", 5.9)


def test_a_change_is_progress(clock: Clock) -> None:
    patience = Patience(60)
    for state in ("starting", "loading", "testing"):
        assert not patience.is_over(state, 0.0)
        clock.now_s += 59


def test_work_is_progress_however_slow(clock: Clock) -> None:
    patience = Patience(60, work_s=1.0)
    for cpu_s in range(1, 20):
        assert not patience.is_over("starting", cpu_s)
        clock.now_s += 59
    clock.now_s += 60
    assert patience.is_over("starting", cpu_s + 0.5)


def test_a_worker_that_ended_took_its_time_along(clock: Clock) -> None:
    patience = Patience(60)
    assert not patience.is_over("starting", 50.0)
    clock.now_s += 50
    assert not patience.is_over("starting", 3.0)
    clock.now_s += 50
    assert not patience.is_over("starting", 3.0)
    clock.now_s += 11
    assert patience.is_over("starting", 3.0)


def test_a_long_step_says_so_while_it_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_REMIND_S", 0.01)
    told: list[str] = []
    reminded = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        if len(told) > 1:
            reminded.set()

    with step(tell, "Ray"):
        assert reminded.wait(30)
    assert told[0] == "starting Ray ..."
    assert told[1].startswith("still starting Ray: ")


def test_a_terminal_that_was_closed_stops_nobody() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    tell_on(Console(file=Closed()))("draining ...")
