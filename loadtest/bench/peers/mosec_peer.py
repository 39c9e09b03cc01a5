"""Mosec: opening in one stage, the engine in the next, as its guide has it for preprocessing.

MOSEC_PORT=... python -m loadtest.bench.peers.mosec_peer
"""

from mosec import Server, Worker

from loadtest.bench.peers.judging import WAIT_S, FrameJudge, Opened, settings


class Opening(Worker):
    """Opens one frame after the other."""

    def __init__(self) -> None:
        """Load what opening needs; the engine is loaded with it, and not used."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._judge = FrameJudge(settings())

    def deserialize(self, data: bytes) -> bytes:
        """Take the body as it is."""
        return data

    def forward(self, data: bytes) -> Opened:
        """Open one frame."""
        return self._judge.open(data)


class Judging(Worker):
    """Judges batches."""

    def __init__(self) -> None:
        """Load the engine."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._judge = FrameJudge(settings())

    def forward(self, data: list[Opened]) -> list[bytes]:
        """Judge one batch."""
        return self._judge.judge(data)

    def serialize(self, data: bytes) -> bytes:
        """Answer with the decision as it is."""
        return data


if __name__ == "__main__":
    server = Server()  # type: ignore[no-untyped-call]
    server.append_worker(Opening, num=1)
    server.append_worker(
        Judging, num=1, max_batch_size=settings().max_batch, max_wait_time=int(WAIT_S * 1000)
    )
    server.run()  # type: ignore[no-untyped-call]
