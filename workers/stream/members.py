"""Who is alive in the stream's consumer group: beats are counted, by clocks that can't step.

Redis says how long an entry has been idle by its wall clock. Set back by an hour, that would keep
a dead replica's entries for an hour; set forward, it would take away those of all living ones. So
each replica counts its beats on the server, and the others watch the counts by their own monotonic
clocks.
"""

from collections.abc import Iterable, Mapping


class Members:
    """The consumers of a group, as one of them sees the others."""

    def __init__(self, me: str, lease_s: float) -> None:
        """Know nobody yet.

        Args:
            me: this consumer, which is never silent to itself.
            lease_s: whose beats stand still this long is silent.
        """
        self._me = me
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}

    def saw_beats(self, beats: Mapping[str, int], now_s: float) -> None:
        """Take in the counts of all members, read at `now_s`, monotonic."""
        for name, count in beats.items():
            if self._seen.get(name, (-1, 0.0))[0] != count:
                self._seen[name] = (count, now_s)

    def saw_holders(self, names: Iterable[str], now_s: float) -> None:
        """Take in who has entries; one that is no member is given a lease to become one."""
        for name in names:
            self._seen.setdefault(name, (-1, now_s))

    def lost_sight(self) -> None:
        """Begin anew: while nobody's beats can be read, nobody can be called silent."""
        self._seen.clear()

    def silent(self, now_s: float, at_least_s: float = 0.0) -> list[str]:
        """Return who has been silent for the lease, and for `at_least_s`."""
        limit_s = max(self._lease_s, at_least_s)
        return [
            name
            for name, (_, at_s) in self._seen.items()
            if name != self._me and now_s - at_s > limit_s
        ]

    def forget(self, names: Iterable[str]) -> None:
        """Drop consumers that are gone for good."""
        for name in names:
            self._seen.pop(name, None)
