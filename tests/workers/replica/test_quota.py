"""One camera that sends too much delays only itself."""

import pytest

from workers.replica.batching import BatchQueue, Slots
from workers.replica.quota import CameraQuota
from workers.wire.refusal import OverQuota


def num_passed(quota: CameraQuota, camera_id: str, arrivals_ms: list[int]) -> int:
    passed = 0
    for arrived_at_ms in arrivals_ms:
        try:
            quota.take(camera_id, arrived_at_ms)
        except OverQuota:
            continue
        passed += 1
    return passed


class TestCameraQuota:
    def test_so_many_frames_pass_of_each_camera_and_second(self) -> None:
        quota = CameraQuota(3)
        assert num_passed(quota, "gate-1", [1000, 1300, 1600, 1999, 1999]) == 3
        assert num_passed(quota, "gate-2", [1000, 1300]) == 2
        assert num_passed(quota, "gate-1", [2000, 2001]) == 2

    def test_what_has_waited_is_no_flood(self) -> None:
        """Ten seconds of a camera at its quota, opened at once and in any order."""
        quota = CameraQuota(30)
        arrivals_ms = [second * 1000 + number * 33 for second in range(10) for number in range(30)]
        assert num_passed(quota, "gate-1", arrivals_ms[::-1]) == 300

    def test_the_message_says_what_the_quota_is(self) -> None:
        quota = CameraQuota(1)
        quota.take("gate-1", 0)
        with pytest.raises(OverQuota, match="frame 2 of a second, at most 1"):
            quota.take("gate-1", 0)

    def test_it_forgets(self) -> None:
        quota = CameraQuota(1)
        for second in range(1000):
            quota.take("gate-1", second * 1000)
        assert len(quota._counts) < 70


class TestTurns:
    async def test_owners_take_turns_in_a_batch(self) -> None:
        queue = BatchQueue[tuple[str, int]](owner=lambda item: item[0])
        for number in range(10):
            queue.put(("busy", number))
        queue.put(("calm", 0))
        assert await queue.take(4) == [("busy", 0), ("calm", 0), ("busy", 1), ("busy", 2)]
        queue.put(("calm", 1))
        assert ("calm", 1) in await queue.take(2)
        assert len(queue) == 6

    async def test_a_batch_is_of_one_kind_whoever_s_turn_it_is(self) -> None:
        queue = BatchQueue[tuple[str, str]](kind=lambda item: item[1], owner=lambda item: item[0])
        for item in (("a", "old"), ("a", "old"), ("a", "new"), ("b", "new"), ("b", "new")):
            queue.put(item)
        batches = [await queue.take(8) for _ in range(2)]
        assert [{kind for _, kind in batch} for batch in batches] == [{"old"}, {"new"}]
        assert sum(map(len, batches)) == 5
        queue.close()
        assert await queue.take(8) == []

    async def test_slots_are_given_together_where_that_is_asked(self) -> None:
        slots = Slots(4)
        assert await slots.take(3) == 3
        slots.give_back(2)
        assert await slots.take(4, at_least=3) == 3
