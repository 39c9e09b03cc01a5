"""The stream's commits: all that waits for one server in one go, with a call for each partition.

It is repeated until it is known what became of each. A partition that is refused, or that has moved
to another server, delays nobody else's but by its own answer.
"""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.settings import StreamSettings
from workers.stream.connection import Servers
from workers.stream.delivery import Commit, CommitResult, SeqUse
from workers.stream.failure import FAILURES, Failure, failure_of
from workers.stream.scripts import packed, script
from workers.stream.shard_group import ShardGroup
from workers.wire import keys
from workers.wire.decision import Decision, unpack_decision

# Clocks of two servers, before and after a failover, may differ by so much.
_LOOK_BACK_MS = 2000
_PAGE = 500
_MARK_MS = 10_000

_log = logging.getLogger(__name__)


@dataclass
class _Waiting:
    """The commits of one partition, until it is known what became of them.

    Attributes:
        partition: whose.
        commits: of it.
        names: keys of the script's call.
        rows: its entries.
        began_ms: when it was first tried, by the server's clock, Unix ms.
        may_have_run: a try got no answer.
    """

    partition: int
    commits: Sequence[Commit]
    names: list[str]
    rows: list[bytes]
    began_ms: int
    may_have_run: bool = False


class FencedCommit:
    """Commits in the name of one consumer; the scripts see to it that each entry counts once."""

    def __init__(self, servers: Servers, settings: StreamSettings, consumer: str) -> None:
        """Commit nothing yet."""
        self._servers = servers
        self._settings = settings
        self._consumer = consumer
        test = settings.presentation.test
        self._limits = {
            "upper": test.upper,
            "lower": test.lower,
            "frame_correlation": test.frame_correlation,
            "max_frames": test.max_frames,
            "silence_ms": settings.presentation.silence_ms,
            "max_refused": settings.presentation.max_refused,
            "refused_ms": round(settings.presentation.refused_s * 1000),
        }

    async def run(
        self,
        by_partition: Mapping[int, Sequence[Commit]],
        state: ShardGroup,
        on_wait: Callable[[], None] | None,
    ) -> dict[int, list[CommitResult]]:
        """Commit decisions of one shard group; an unreachable server is waited for."""
        waiting = [
            _Waiting(partition, some, *_arguments(partition, some), state.clock.now_ms())
            for partition, some in by_partition.items()
        ]
        results: dict[int, list[CommitResult]] = {}
        while waiting:
            failed: Exception | None = None
            for each, answer in zip(waiting, await self._try(waiting, state), strict=True):
                found = await self._results(each, answer, state)
                if isinstance(found, Exception):
                    failed = found
                else:
                    results[each.partition] = found
            if failed is None:
                break
            waiting = [each for each in waiting if each.partition not in results]
            if on_wait is not None:
                on_wait()
            await state.pause(failed)
        return results

    async def _try(self, waiting: Sequence["_Waiting"], state: ShardGroup) -> list[Any]:
        shared = packed(
            now_ms=state.clock.now_ms(),
            max_decisions=self._settings.max_decisions,
            max_camera_decisions=self._settings.max_camera_decisions,
            max_dead_letters=self._settings.max_dead_letters,
            max_seqs=self._settings.max_seqs,
            presentation=self._limits,
        )
        head = [keys.GROUP, self._consumer, shared]
        calls = ((each.names, [*head, *each.rows]) for each in waiting)
        return await self._servers.run_all(script("commit"), calls)

    async def _results(
        self,
        of: "_Waiting",
        answer: Any,  # noqa: ANN401 - or an error
        state: ShardGroup,
    ) -> list[CommitResult] | Exception:
        """Return what became of one partition's commits, or a failure that passes by itself."""
        try:
            if isinstance(answer, Exception):
                raise answer
            for trouble in answer[len(of.rows) :]:
                told = trouble.decode(errors="replace")
                _log.error("a dead letter or a verdict is lost: %s", told)
            results = [_result(each, of.names[0]) for each in answer[: len(of.rows)]]
            if of.may_have_run:
                results = await self._look_up(of.commits, results, of.began_ms)
        except FAILURES as error:
            failure = failure_of(error)
            of.may_have_run |= failure.may_have_run
            if failure.is_transient:
                return error
            if failure is Failure.NO_GROUP:
                # The next read finds out too, and makes the group again.
                _log.error("the server lost its data, and with it these entries: %s", error)
                return [CommitResult.NOT_OWNER] * len(of.commits)
            state.block(of.partition, str(error))
            return [CommitResult.BLOCKED] * len(of.commits)
        state.answered()
        if CommitResult.COMMITTED in results:
            state.unblock(of.partition)
        return results

    async def admit(self, use: SeqUse, state: ShardGroup) -> CommitResult:
        """See `FrameStream.admit`; a server that is away is waited for while there is any use."""
        # Without the mark, a second try could not be told from a replay.
        give_up_ms = min(use.until_ms, state.clock.now_ms() + _MARK_MS // 2)
        partition = keys.partition_of(use.camera_id, self._settings.partitions)
        names = [
            keys.seen(partition, use.camera_id, use.key_id),
            keys.admitted(partition, secrets.token_hex(8)),
        ]
        while True:
            asked = packed(
                now_ms=state.clock.now_ms(),
                seq=str(use.seq),
                until_ms=use.until_ms,
                max_seqs=self._settings.max_seqs,
                mark_ms=_MARK_MS,
            )
            try:
                return _result(await self._servers.run(script("admit"), names, [asked]), names[0])
            except FAILURES as error:
                if not failure_of(error).is_transient:
                    _log.error("%s: a seq can't be looked up: %s", names[0], error)
                    return CommitResult.BLOCKED
                if state.clock.now_ms() > give_up_ms:
                    return CommitResult.EXPIRED
                await state.pause(error)

    async def _look_up(
        self, commits: Sequence[Commit], results: list[CommitResult], began_ms: int
    ) -> list[CommitResult]:
        """Tell "committed by a try whose reply got lost" from "another replica was faster"."""
        name = keys.decisions(commits[0].entry.partition)
        mine: set[str] = set()
        after = str(began_ms - _LOOK_BACK_MS)
        while rows := await self._servers.execute(name, "XRANGE", name, after, "+", "COUNT", _PAGE):
            decisions = [_read(fields) for _, fields in rows]
            mine.update(
                each.entry_id for each in decisions if each and each.replica == self._consumer
            )
            after = f"({rows[-1][0].decode()}"
        return [
            CommitResult.COMMITTED
            if result is CommitResult.NOT_OWNER and commit.entry.id in mine
            else result
            for commit, result in zip(commits, results, strict=True)
        ]


def _arguments(partition: int, commits: Sequence[Commit]) -> tuple[list[str], list[bytes]]:
    """Return the keys of a commit, and its entries; `scripts/commit.lua` names both."""
    names = [keys.frames(partition), keys.decisions(partition), keys.dead(partition)]
    rows = []
    for commit in commits:
        row: dict[str, Any] = {
            "id": commit.entry.id,
            "decision": commit.decision,
            "signature": commit.signature,
            "error": commit.error,
        }
        if commit.deadline_ms is not None:
            row["deadline_ms"] = commit.deadline_ms
        if commit.camera_id is not None:
            row["camera"] = len(names) + 1
            names.append(keys.camera_decisions(partition, commit.camera_id))
        if commit.seq is not None:
            row.update(seen=len(names) + 1, seq=str(commit.seq.seq), until_ms=commit.seq.until_ms)
            names.append(keys.seen(partition, commit.seq.camera_id, commit.seq.key_id))
        if (step := commit.presentation) is not None and commit.camera_id is not None:
            row["presentation"] = {
                "state": len(names) + 1,
                "attempts": len(names) + 2,
                "evidence": step.evidence,
                "verdicts": step.verdicts,
            }
            names.append(
                keys.presentation(partition, commit.camera_id, step.key_id, step.presentation_id)
            )
            names.append(keys.attempts(partition, commit.camera_id, step.key_id))
        rows.append(packed(**row))
    return names, rows


def _result(answer: int | bytes, where: str) -> CommitResult:
    if isinstance(answer, bytes):
        _log.error("%s: a commit is refused: %s", where, answer.decode(errors="replace"))
        return CommitResult.BLOCKED
    return CommitResult(answer)


def _read(fields: Mapping[bytes, bytes]) -> Decision | None:
    try:
        return unpack_decision(fields[b"d"])
    except Exception:  # noqa: BLE001 - whatever is in there, it is not of this consumer
        return None
