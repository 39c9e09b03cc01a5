"""When frames are due: the rate that was asked for, the same every time, and no gap anywhere."""

from pathlib import Path

import numpy as np
import pytest

from loadtest.scenario.arrivals import TraceError, arrival_times, read_trace, shape_of

SHAPES = {
    "constant": {},
    "ramp": {"to_fps": 900, "over": "40 s"},
    "step": {"then_fps": [300, 50], "each": "15 s"},
    "spike": {"peak_fps": 800, "at": "20 s", "lasts": "5 s"},
    "flash-crowd": {"peak_fps": 900, "at": "10 s", "half_life": "5 s"},
    "morning-rush": {"peak_fps": 700, "at": "25 s", "rise": "10 s"},
    "diurnal": {"peak_fps": 500, "day": "60 s", "peak_at": "30 s"},
}


@pytest.mark.parametrize("spacing", ["even", "poisson"])
@pytest.mark.parametrize("name", SHAPES)
def test_arrivals_follow_their_rate(name: str, spacing: str) -> None:
    shape = shape_of(name, fps=100, spacing=spacing, **SHAPES[name])
    times = arrival_times(shape, 60.0, 1.0, np.random.default_rng(1))
    again = arrival_times(shape, 60.0, 1.0, np.random.default_rng(1))
    assert np.array_equal(times, again)
    assert (np.diff(times) >= 0).all()
    assert 0 <= times[0] <= times[-1] <= 60
    grid = np.linspace(0, 60, 60_001)
    for begin, end in ((0, 60), (10, 20), (20, 25), (40, 60)):
        inside = (grid >= begin) & (grid <= end)
        due = np.trapezoid(shape.rate(grid[inside]), grid[inside])
        seen = ((times >= begin) & (times < end)).sum()
        # At the edge of a spike the rate is known to a grid step of it.
        assert abs(seen - due) <= (5 * np.sqrt(due) if spacing == "poisson" else 2) + 45


def test_poisson_gaps_are_exponential_and_even_ones_are_not() -> None:
    for spacing, expected in (("poisson", 1.0), ("even", 0.0)):
        shape = shape_of("constant", fps=500, spacing=spacing)
        gaps = np.diff(arrival_times(shape, 60.0, 1.0, np.random.default_rng(2)))
        assert gaps.std() / gaps.mean() == pytest.approx(expected, abs=0.03)


def test_senders_share_a_rate_without_a_frame_more_or_less() -> None:
    shape = shape_of("constant", fps=300, spacing="even")
    counts = [
        len(arrival_times(shape, 30.0, share, np.random.default_rng(number)))
        for number, share in enumerate((0.5, 0.3, 0.2))
    ]
    assert sum(counts) == pytest.approx(9000, abs=3)


def test_a_trace_is_replayed_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("# recorded\n100,10\n110,30\n\n120,10\n")
    shape = shape_of("replay", fps=200, trace="day.csv").recorded(tmp_path)  # type: ignore[union-attr]
    times = arrival_times(shape, 20.0, 1.0, np.random.default_rng(1))
    assert len(times) == pytest.approx(4000, rel=0.06)
    middle = ((times > 9) & (times < 11)).sum()
    assert middle > 2 * (times < 2).sum()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,2\n1,3\n", ":2: seconds must rise"),
        ("1,2\nx,3\n", ":2: must be seconds,fps"),
        ("1,2\n", "two lines at least"),
        ("1,0\n2,0\n", "a rate above 0"),
        ("1,2\n2,nan\n", ":2: seconds must rise"),
    ],
)
def test_a_trace_that_can_not_be_replayed_says_where(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=told):
        read_trace(path)
