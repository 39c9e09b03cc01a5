"""Who is alive in the stream's consumer group: beats are counted, by clocks that can't step.

Redis says how long an entry has been idle by its wall clock. Set back by an hour, that would keep
a dead replica's entries for an hour; set forward, it would take away those of all living ones. So
each replica leaves beats on the server, and the others watch them change by their own monotonic
clocks. Who stood still itself has watched nothing meanwhile: silence counts up to the last look.
"""

from collections.abc import Iterable, Mapping


class Members:
    """The consumers of a group, as one of them sees the others in one copy of the beats."""

    def __init__(self, me: str, lease_s: float) -> None:
        """Know nobody yet.

        Args:
            me: this consumer, which is never silent to itself.
            lease_s: whose beats stand still this long is silent.
        """
        self._me = me
        self._lease_s = lease_s
        self._looked_at_s = 0.0
        self._seen: dict[str, tuple[bytes, float]] = {}

    def saw_beats(self, beats: Mapping[str, bytes], now_s: float) -> None:
        """Take in the last beats of all members, read at `now_s`, monotonic."""
        self._looked_at_s = now_s
        for name, beat in beats.items():
            if name not in self._seen or self._seen[name][0] != beat:
                self._seen[name] = (beat, now_s)

    def saw_holders(self, names: Iterable[str], now_s: float) -> None:
        """Take in who has entries; one that is no member is given a lease to become one."""
        for name in names:
            self._seen.setdefault(name, (b"", now_s))

    def lost_sight(self) -> None:
        """Begin anew: while nobody's beats can be read, nobody can be called silent."""
        self._seen.clear()

    def silent(self, at_least_s: float = 0.0) -> set[str]:
        """Return who was silent for the lease, and for `at_least_s`, when last looked at."""
        limit_s = max(self._lease_s, at_least_s)
        return {
            name
            for name, (_, at_s) in self._seen.items()
            if name != self._me and self._looked_at_s - at_s > limit_s
        }

    def alive(self) -> set[str]:
        """Return whose beats have changed within the lease."""
        return self._seen.keys() - self.silent()

    def forget(self, names: Iterable[str]) -> None:
        """Drop consumers that are gone for good."""
        for name in names:
            self._seen.pop(name, None)
