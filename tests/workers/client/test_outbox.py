"""What becomes of a frame between publish and its answer, without a line."""

import pytest

from tests.workers import frames
from workers.client.camera import CameraError, SendResult
from workers.client.lines import NotNow, NotTaken, ReplyLost
from workers.client.outbox import Outbox, Sent
from workers.wire.frame import Frame


class TestOutbox:
    """What becomes of a frame, without a line."""

    def outbox(self, results: list[SendResult] | None = None) -> Outbox:
        outbox = Outbox("gate-1", None, 2, None if results is None else results.append)
        outbox.put(Frame("-", 0, 1, frames.planes()))
        outbox.take()
        outbox.begin()
        return outbox

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (ReplyLost("gone"), "unknown"),
            (RuntimeError("gone"), "unknown"),
            (NotTaken("gone"), "refused"),
        ],
    )
    def test_a_frame_that_failed_is_told_once_and_not_sent_again(
        self, error: Exception, status: str
    ) -> None:
        results: list[SendResult] = []
        outbox = self.outbox(results)
        outbox.failed(error)
        outbox.give_up()
        assert [result.status for result in results] == [status]
        assert outbox.sent == Sent(**{status: 1}, last_error="gone")
        assert outbox.take() is None

    def test_not_now_is_the_same_frame_again_after_growing_pauses(self) -> None:
        outbox = self.outbox()
        first = outbox.take()
        pauses = [outbox.failed(NotNow("full")) for _ in range(6)]
        assert outbox.take() == first
        assert pauses == sorted(pauses)
        assert max(pauses) <= 1.0
        assert outbox.failed(NotNow("too fast", pause_s=7.0)) == 7.0

    def test_what_is_under_way_at_the_end_is_unknown_and_the_rest_dropped(self) -> None:
        results: list[SendResult] = []
        outbox = self.outbox(results)
        outbox.put(Frame("-", 0, 1, frames.planes()))
        outbox.give_up()
        outbox.arrived("1-0")
        assert [result.status for result in results] == ["unknown", "dropped"]
        with pytest.raises(CameraError, match="closed"):
            outbox.put(Frame("-", 0, 1, frames.planes()))

    def test_nothing_waits_means_nothing_to_send(self) -> None:
        assert Outbox("gate-1", None, 2).take() is None
