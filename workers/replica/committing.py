"""A replica commits decisions: all that waits for one server in one call, in two passes."""

from collections.abc import Callable, Mapping, Sequence

from workers.errors import WorkerError
from workers.replica.batching import BatchQueue
from workers.replica.in_flight import Decided, InFlight, Judge
from workers.replica.progress import Progress
from workers.replica.telemetry import Telemetry
from workers.settings import WorkerSettings
from workers.stream.delivery import CommitResult, FrameStream
from workers.wire.refusal import Expired, FrameRefused, Replayed, SeqMemoryFull, WorkerFailed

_MAX_COMMIT = 256
# What becomes of a decision that could not be committed as it was.
_INSTEAD: Mapping[CommitResult, FrameRefused] = {
    CommitResult.EXPIRED: Expired("too old by the time of its commit"),
    CommitResult.REPLAYED: Replayed("its seq was used before"),
    CommitResult.MEMORY_FULL: SeqMemoryFull("too many seqs are remembered: give it a new key"),
    CommitResult.BLOCKED: WorkerFailed("its decision can't be written: see the log"),
}


class NotCommitted(WorkerError):
    """A frame that came by HTTP has no decision: send a new one."""


class Committer:
    """Makes decisions visible, and lets go of their frames: the only way out of a replica."""

    def __init__(
        self,
        stream: FrameStream,
        judge: Judge,
        telemetry: Telemetry,
        settings: WorkerSettings,
        progress: Progress,
        on_end: Callable[[InFlight], None],
    ) -> None:
        """Have nothing to commit yet.

        Args:
            stream: where decisions go.
            judge: decides anew where a decision can't be committed.
            telemetry: is told what became of each.
            settings: of the deployment.
            progress: of the replica's steps.
            on_end: called with each frame that is let go.
        """
        self._stream = stream
        self._judge = judge
        self._telemetry = telemetry
        self._settings = settings
        self._progress = progress
        self._on_end = on_end
        self._queues: dict[tuple[int, ...], BatchQueue[Decided]] = {}

    def put(self, decided: Decided) -> None:
        """Take a decision on a frame from the stream; it waits for the commit of its group."""
        assert decided.frame.entry is not None  # noqa: S101 - a frame by HTTP is admitted
        group = self._stream.group_of(decided.frame.entry.partition)
        self._queues[tuple(group)].put(decided)

    def open(self, group: Sequence[int]) -> None:
        """Take decisions of a shard group from now on."""
        self._queues[tuple(group)] = BatchQueue[Decided]()

    def close(self) -> None:
        """Let each `run` return once nothing waits for it."""
        for queue in self._queues.values():
            queue.close()

    async def run(self, group: Sequence[int]) -> None:
        """Commit the decisions of one shard group until `close`.

        What the first pass commits is let go at once. The rest is decided anew, as `no_decision`,
        which nothing but its owner can stand in the way of: the second pass is the last.
        """
        while batch := await self._queues[tuple(group)].take(_MAX_COMMIT):
            results = await self._commit(group, batch)
            self._release([pair for pair in results if pair[1] not in _INSTEAD])
            again = [self._instead(*pair) for pair in results if pair[1] in _INSTEAD]
            if again:
                self._release(await self._commit(group, again))

    async def admit(self, decided: Decided) -> Decided:
        """Return what is decided on a frame that came by HTTP, once its seq is known to be new.

        Raises:
            NotCommitted: the seq can't be looked up.
        """
        use, deadline_ms = decided.seq_use(self._settings), decided.deadline_ms(self._settings)
        result = CommitResult.COMMITTED if use is None else await self._stream.admit(use)
        if result is CommitResult.BLOCKED:
            raise NotCommitted("the memory of the camera's seqs can't be used: see the log")
        if deadline_ms is not None and self._stream.now_ms(decided.frame.partition) > deadline_ms:
            result = CommitResult.EXPIRED
        if result in _INSTEAD:
            decided = self._instead(decided, result)
        self._telemetry.committed([decided.decision])
        return decided

    async def _commit(
        self, group: Sequence[int], batch: Sequence[Decided]
    ) -> list[tuple[Decided, CommitResult]]:
        commits = [decided.to_commit(self._settings) for decided in batch]
        with self._progress.at("commit", group) as waits:

            def on_wait() -> None:
                waits()
                _free_slots(batch)

            results = await self._stream.commit(commits, on_wait)
        return list(zip(batch, results, strict=True))

    def _instead(self, decided: Decided, result: CommitResult) -> Decided:
        frame = decided.frame
        # Where the camera's own keys are what is wrong, the partition's stream still tells it.
        is_shown = result is not CommitResult.BLOCKED
        now_ms = self._stream.now_ms(frame.partition)
        return self._judge.refusal(frame, _INSTEAD[result], now_ms, is_shown=is_shown)

    def _release(self, results: Sequence[tuple[Decided, CommitResult]]) -> None:
        committed = []
        for decided, result in results:
            frame, is_committed = decided.frame, result is CommitResult.COMMITTED
            is_ours = not is_committed and result is not CommitResult.NOT_OWNER
            if frame.entry is not None:
                self._stream.release(frame.entry, is_ours=is_ours)
            frame.free_slot()
            self._on_end(frame)
            if is_committed:
                committed.append(decided.decision)
                if decided.error:
                    self._telemetry.gave_up()
            elif not is_ours:
                self._telemetry.commit_refused()
        if committed:
            self._telemetry.committed(committed)


def _free_slots(batch: Sequence[Decided]) -> None:
    """A server that is away keeps its frames, but not the slots that others need."""
    for decided in batch:
        decided.frame.free_slot()
