"""The stream's promises in any order of what can happen, in memory and on a real server.

Publish, read, commit, crash, fall silent, reclaim, lose a reply, use a seq again, let time pass,
kill the server, hand over to its standby: whatever order Hypothesis finds, each entry is decided
once, each seq gets one verdict, none after its deadline, and in the end nothing is left.

    python -m pytest tests/workers/stream/test_model.py --hypothesis-profile long
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import emptied
from tests.faults.servers import Single, single
from tests.workers.stream.bench import (
    MemoryBench,
    RedisBench,
    camera_in,
    commit_of,
    read_all,
    reclaim,
)
from tests.workers.stream.test_failures import losing_reply
from workers.settings import StreamSettings
from workers.stream.delivery import CommitResult, Entry, SeqUse
from workers.stream.redis_stream import RedisStream
from workers.testing import MemoryStream
from workers.wire.decision import pack_decision, unpack_decision

MEMORY_MS = 60_000
DEADLINE_MS = 5_000
MAX_FAILOVERS = 3  # of one example: each takes a while
CONSUMERS = st.integers(0, 2)


class FailoverBench(RedisBench):
    """A server that can be killed, and that has a standby: the streams find it at one address."""

    def __init__(self, servers: Single) -> None:
        servers.admin().flushall()
        super().__init__(StreamSettings(url=servers.url, partitions=2, lease_ms=200, block_ms=10))
        self.servers = servers
        self.client = self._direct()

    def _direct(self) -> Any:
        return redis.asyncio.Redis(port=self.servers.primary.port)

    async def kill(self) -> None:
        await self.client.aclose()
        self.servers.primary.restart()

    async def hand_over(self) -> None:
        await self.client.aclose()
        self.servers.hand_over()
        self.client = self._direct()


class StreamModel(RuleBasedStateMachine):
    """Three consumers, two partitions, a few seqs that are used again and again."""

    make_bench: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench: MemoryBench | RedisBench = self.make_bench()
        self.names = [f"consumer-{number}" for number in range(3)]
        self.streams: list[Any] = [self.do(self.bench.join(name)) for name in self.names]
        self.num_started = 3
        self.in_hand: list[dict[tuple[int, str], Entry]] = [{}, {}, {}]
        self.published: dict[tuple[int, str], int] = {}
        self.given_up: set[tuple[int, str]] = set()
        self.decided: Counter[tuple[int, str]] = Counter()
        self.verdicts: dict[tuple[int, int], int] = {}
        self.seq_of: dict[tuple[int, str], int] = {}
        self.num_failovers = 0

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @rule(partition=st.integers(0, 1), seq=st.integers(0, 3))
    def publish(self, partition: int, seq: int) -> None:
        key = (partition, self.do(self.bench.add(partition)))
        self.published[key] = self.streams[0].now_ms(partition)
        self.seq_of[key] = seq

    @rule(who=CONSUMERS, slots=st.integers(1, 4), is_lost=st.booleans())
    def read(self, who: int, slots: int, is_lost: bool) -> None:
        self.take(who, "read", is_lost, lambda: read_all(self.streams[who], slots))

    @rule(who=CONSUMERS, slots=st.integers(1, 4), is_lost=st.booleans())
    def reclaim(self, who: int, slots: int, is_lost: bool) -> None:
        self.take(who, "reclaim", is_lost, lambda: reclaim(self.streams[who], slots))

    def take(self, who: int, what: str, is_lost: bool, asked: Any) -> None:
        stream = self.streams[who]
        if isinstance(stream, MemoryStream):
            stream.loses_reply = is_lost
            found = self.do(asked())
            stream.loses_reply = False
        elif is_lost:
            with losing_reply(stream._servers._guides[0], what):
                found = self.do(asked())
        else:
            found = self.do(asked())
        for entry in found:
            assert entry.key not in self.in_hand[who]
            assert entry.key in self.published
            assert not self.decided[entry.key]
            self.in_hand[who][entry.key] = entry

    @precondition(lambda self: any(self.in_hand))
    @rule(data=st.data(), is_verdict=st.booleans(), is_lost=st.booleans())
    def commit(self, data: st.DataObject, is_verdict: bool, is_lost: bool) -> None:
        who = data.draw(st.sampled_from([n for n in range(3) if self.in_hand[n]]))
        keys = data.draw(
            st.lists(st.sampled_from(sorted(self.in_hand[who])), min_size=1, unique=True)
        )
        self.decide(who, keys, is_verdict=is_verdict, is_lost=is_lost)

    def decide(
        self, who: int, names: list[tuple[int, str]], *, is_verdict: bool, is_lost: bool
    ) -> None:
        stream = self.streams[who]
        entries = [self.in_hand[who].pop(name) for name in names]
        commits = [self.commit_for(each, who, is_verdict=is_verdict) for each in entries]
        if is_lost and isinstance(stream, RedisStream):
            with losing_reply(stream._servers, "commit"):
                results = self.do(stream.commit(commits))
        else:
            results = self.do(stream.commit(commits))
        for entry, result in zip(entries, results, strict=True):
            stream.release(entry, is_ours=False)
            if result is CommitResult.COMMITTED:
                self.saw_commit(entry, is_verdict=is_verdict)
            elif result is CommitResult.NOT_OWNER:
                pass
            else:  # as a replica does: without a verdict, it always can be
                assert result in (CommitResult.REPLAYED, CommitResult.EXPIRED)
                assert is_verdict
                assert self.do(stream.commit([commit_of(entry)])) == [CommitResult.COMMITTED]
                self.saw_commit(entry, is_verdict=False)

    def commit_for(self, entry: Entry, who: int, *, is_verdict: bool) -> Any:
        made = commit_of(entry, error="given up" if entry.fields is None else "")
        if is_verdict:
            camera, born_ms = camera_in(entry.partition), self.published[entry.key]
            use = SeqUse(camera, "key", self.seq_of[entry.key], born_ms + MEMORY_MS)
            made = commit_of(entry, camera_id=camera, seq=use, deadline_ms=born_ms + DEADLINE_MS)
        # By this name a consumer knows its own, when a reply got lost.
        decision = replace(unpack_decision(made.decision), replica=self.names[who])
        return replace(made, decision=pack_decision(decision))

    def saw_commit(self, entry: Entry, *, is_verdict: bool) -> None:
        self.decided[entry.key] += 1
        if not is_verdict:
            return
        name = (entry.partition, self.seq_of[entry.key])
        now_ms = self.streams[0].now_ms(entry.partition)
        born_ms = self.published[entry.key]
        assert now_ms <= born_ms + DEADLINE_MS + 1000, "a verdict after its deadline"
        assert name not in self.verdicts or self.verdicts[name] < now_ms, "two verdicts of a seq"
        self.verdicts[name] = born_ms + MEMORY_MS

    @rule(who=CONSUMERS)
    def crash(self, who: int) -> None:
        """Its process ends, and another one starts."""
        self.num_started += 1
        stream = self.streams[who]
        if isinstance(stream, RedisStream):
            self.do(abandon(stream))
        self.names[who] = f"consumer-{self.num_started}"
        self.streams[who] = self.do(self.bench.join(self.names[who]))
        self.in_hand[who] = {}

    @precondition(
        lambda self: isinstance(self.bench, FailoverBench) and self.num_failovers < MAX_FAILOVERS
    )
    @rule(is_planned=st.booleans())
    def fail_over(self, is_planned: bool) -> None:
        """Its lines are broken, or lead to a server that takes no writes any more."""
        assert isinstance(self.bench, FailoverBench)
        self.num_failovers += 1
        self.do(self.bench.hand_over() if is_planned else self.bench.kill())

    @rule(alive=st.sets(CONSUMERS))
    def pass_a_lease(self, alive: set[int]) -> None:
        self.do(self.bench.let_lease_pass(*(self.streams[each] for each in alive)))

    @rule(by_ms=st.sampled_from([10, 1_000, DEADLINE_MS + 1_500, MEMORY_MS + 1_500]))
    def pass_time(self, by_ms: int) -> None:
        self.do(self.bench.let_lease_pass(*self.streams))
        self.do(self.bench.let_time_pass(by_ms))
        for stream in self.streams:
            self.do(stream.beat())

    @invariant()
    def each_entry_is_decided_once_or_still_there(self) -> None:
        for partition in (0, 1):
            shown = Counter(each.entry_id for each in self.do(self.bench.decisions(partition)))
            mine = {key[1]: count for key, count in self.decided.items() if key[0] == partition}
            assert shown == {name: 1 for name, count in mine.items() if count}
            num_left = self.do(self.bench.num_frames(partition))
            added = sum(1 for key in self.published if key[0] == partition)
            assert num_left == added - len(shown)

    def teardown(self) -> None:
        """Two of three crash; the last one sees everything through."""
        try:
            for who in (0, 1):
                self.crash(who)
            for _ in range(40 + 20 * len(self.published)):
                if set(self.published) == {key for key, count in self.decided.items() if count}:
                    break
                self.do(self.bench.let_lease_pass(*self.streams))
                self.take(2, "reclaim", False, lambda: reclaim(self.streams[2]))
                self.take(2, "read", False, lambda: read_all(self.streams[2]))
                self.decide(2, list(self.in_hand[2]), is_verdict=False, is_lost=False)
            assert {key for key, count in self.decided.items() if count} == set(self.published)
            self.each_entry_is_decided_once_or_still_there()
        finally:
            self.do(self.bench.close())
            self.runner.close()


async def abandon(stream: RedisStream) -> None:
    """Close its connections, as the end of its process would, and say nothing."""
    await stream._heartbeat.aclose()
    await stream._servers.aclose()
    await stream._blocking.aclose()


def check(make_bench: Any, num_examples: int) -> None:
    model = type("Model", (StreamModel,), {"make_bench": staticmethod(make_bench)})
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=num_examples * settings().max_examples // 100,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_in_memory() -> None:
    check(lambda: MemoryBench(StreamSettings(partitions=2, lease_ms=200, block_ms=10)), 30)


def test_on_a_real_server(valkey_url: str) -> None:
    check(lambda: RedisBench(emptied(valkey_url)), 15)


def test_on_a_real_server_that_fails(tmp_path: Path) -> None:
    with single(tmp_path) as servers:
        check(lambda: FailoverBench(servers), 8)
