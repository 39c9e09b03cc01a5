"""Service level objectives, and the rules that follow from one: recording rules and two alerts.

An alert asks two windows at once: the long one says that it matters, the short one that it still
goes on. A `page` means that the error budget would be gone in days, a `ticket` in weeks.

Source: names, windows and factors are those of sloth (https://sloth.dev), which takes them from the
Site Reliability Workbook of Google, chapter 5; so dashboards made for sloth show these, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

PERIOD_DAYS = 30
_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_PERIOD = f"{PERIOD_DAYS}d"
Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Burn:
    """How fast the budget may burn: over both windows, so many times as fast as it lasts."""

    factor: float
    short: str
    long: str


_BURNS: dict[Literal["page", "ticket"], tuple[_Burn, _Burn]] = {
    "page": (_Burn(14.4, "5m", "1h"), _Burn(6, "30m", "6h")),
    "ticket": (_Burn(3, "2h", "1d"), _Burn(1, "6h", "3d")),
}


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of events that is promised to be good.

    Attributes:
        name: of the objective, in the labels.
        alert: name of its alerts.
        ratio: of events that are to be good, in (0, 1).
        bad: PromQL of bad events a second, with `{window}` for the range.
        all: PromQL of all events a second.
        summary: what is wrong when it is missed.
    """

    name: str
    alert: str
    ratio: float
    bad: str
    all: str
    summary: str

    @property
    def _labels(self) -> dict[str, str]:
        return {
            "sloth_id": f"livegate-{self.name}",
            "sloth_service": "livegate",
            "sloth_slo": self.name,
        }

    @property
    def _selector(self) -> str:
        return "{" + ", ".join(f'{name}="{value}"' for name, value in self._labels.items()) + "}"

    def recordings(self) -> Iterator[Rule]:
        """Yield the recording rules of its error ratios, the longest window last."""
        for window in _WINDOWS:
            bad, total = (text.replace("{window}", window) for text in (self.bad, self.all))
            yield {
                "record": f"slo:sli_error:ratio_rate{window}",
                "expr": f"({bad})\n/\n({total})",
                "labels": {**self._labels, "sloth_window": window},
            }
        short = f"slo:sli_error:ratio_rate5m{self._selector}"
        yield {
            "record": f"slo:sli_error:ratio_rate{_PERIOD}",
            "expr": f"sum_over_time({short}[{_PERIOD}])\n/ ignoring (sloth_window)\n"
            f"count_over_time({short}[{_PERIOD}])",
            "labels": {**self._labels, "sloth_window": _PERIOD},
        }

    def metadata(self) -> Iterator[Rule]:
        """Yield what dashboards need to know of it: objective, budget, and how it burns."""
        on = f"on({', '.join(self._labels)}) group_left"
        budget = f"slo:error_budget:ratio{self._selector}"
        for record, expr in (
            ("slo:objective:ratio", f"vector({self.ratio})"),
            ("slo:error_budget:ratio", f"vector(1 - {self.ratio})"),
            ("slo:time_period:days", f"vector({PERIOD_DAYS})"),
            (
                "slo:current_burn_rate:ratio",
                f"slo:sli_error:ratio_rate5m{self._selector}\n/ {on}\n{budget}",
            ),
            (
                "slo:period_burn_rate:ratio",
                f"slo:sli_error:ratio_rate{_PERIOD}{self._selector}\n/ {on}\n{budget}",
            ),
            (
                "slo:period_error_budget_remaining:ratio",
                f"1 - slo:period_burn_rate:ratio{self._selector}",
            ),
        ):
            yield {"record": record, "expr": expr, "labels": self._labels}

    def alerts(self) -> Iterator[Rule]:
        """Yield its alerts, the urgent one first."""
        for severity, burns in _BURNS.items():
            yield {
                "alert": self.alert,
                "expr": "\nor\n".join(map(self._burns, burns)),
                "labels": {**self._labels, "sloth_severity": severity, "severity": severity},
                "annotations": {"summary": self.summary},
            }

    def _burns(self, burn: _Burn) -> str:
        # Rounded, or 1 - 0.999 would be written with its error in the 17th digit.
        limit = f"({burn.factor:g} * {round(1 - self.ratio, 12):g})"
        return (
            "(\n"
            + "\nand ignoring (sloth_window)\n".join(
                f"  max(slo:sli_error:ratio_rate{window}{self._selector} > {limit}) "
                "without (sloth_window)"
                for window in (burn.short, burn.long)
            )
            + "\n)"
        )
