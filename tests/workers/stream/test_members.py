"""Who is silent and what time it is, told by clocks that step, stand still, drift and lag."""

from workers.stream.clock import ServerClock
from workers.stream.members import Members


class TestMembers:
    def test_whose_beats_stand_still_for_a_lease_is_silent(self) -> None:
        members = Members("me", 1.0)
        for now_s in (0.0, 0.5, 1.0, 1.5):
            members.saw_beats({"me": b"1", "still": b"1", "moving": str(now_s).encode()}, now_s)
        assert (members.silent(), members.alive()) == ({"still"}, {"me", "moving"})

    def test_who_stood_still_itself_calls_nobody_silent(self) -> None:
        members = Members("me", 1.0)
        members.saw_beats({"other": b"1"}, 0.0)
        members.saw_holders(["holder"], 0.1)
        # This process was stopped for a minute, and now asks before it has looked again.
        assert members.silent() == set()
        members.saw_beats({"other": b"2"}, 60.0)
        assert members.silent() == {"holder"}

    def test_a_holder_that_is_no_member_is_given_a_lease(self) -> None:
        members = Members("me", 1.0)
        members.saw_beats({}, 0.0)
        members.saw_holders(["stranger"], 0.0)
        members.saw_beats({}, 0.9)
        assert members.silent() == set()
        members.saw_beats({}, 1.1)
        assert members.silent() == {"stranger"}

    def test_whatever_is_in_the_hash_is_taken(self) -> None:
        members = Members("me", 1.0)
        members.saw_beats({"junk": b"\xff not a number"}, 0.0)
        members.saw_beats({"junk": b"\xff not a number"}, 2.0)
        assert members.silent() == {"junk"}


class Watch:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sample(self, clock: ServerClock, server_ms: float, lag_s: float = 0.0) -> None:
        """Ask, and get the server's time `server_ms` after `lag_s`."""
        asked_s = self.now_s
        self.now_s += lag_s
        clock.sample(server_ms, asked_s)


class TestServerClock:
    def test_a_slow_answer_does_not_put_it_ahead(self) -> None:
        watch = Watch()
        clock = ServerClock(watch)
        watch.sample(clock, 50_000)
        # The server stood still for 1.9 s before it looked at its clock, or after.
        watch.sample(clock, 51_900, lag_s=1.9)
        assert clock.now_ms() == 51_900
        watch.sample(clock, 51_900, lag_s=1.9)
        assert clock.now_ms() == 53_800

    def test_a_slow_first_answer_is_mended_by_the_next(self) -> None:
        watch = Watch()
        clock = ServerClock(watch)
        watch.sample(clock, 50_000, lag_s=1.5)
        watch.sample(clock, 51_500)
        assert clock.now_ms() == 51_500

    def test_it_never_steps_back(self) -> None:
        watch = Watch()
        clock = ServerClock(watch)
        watch.sample(clock, 3_600_000)
        for back_ms in (10_000, 3_600_000):
            told_ms = clock.now_ms()
            for second in range(60):
                watch.now_s += 1
                watch.sample(clock, 3_600_000 - back_ms + second * 1000)
                assert clock.now_ms() >= told_ms
                told_ms = clock.now_ms()
        assert clock.now_ms() >= 3_600_000 + 118_000
        assert clock.ahead_ms > 3_590_000

    def test_it_follows_a_step_forward_at_once(self) -> None:
        watch = Watch()
        clock = ServerClock(watch)
        watch.sample(clock, 50_000)
        watch.sample(clock, 60_000)
        assert clock.now_ms() == 60_000

    def test_a_clock_that_drifts_is_followed_both_ways(self) -> None:
        for drift in (-100e-6, 100e-6):
            watch = Watch()
            clock = ServerClock(watch)
            server_ms = 50_000.0
            for _ in range(86_400):
                watch.now_s += 1
                server_ms += 1000 * (1 + drift)
                watch.sample(clock, server_ms)
            assert abs(clock.now_ms() - server_ms) <= 2

    def test_what_others_have_told_counts(self) -> None:
        watch = Watch()
        clock = ServerClock(watch)
        watch.sample(clock, 50_000)
        clock.raise_to(60_000)
        assert clock.now_ms() == 60_000
        clock.raise_to(10)
        assert clock.now_ms() == 60_000
