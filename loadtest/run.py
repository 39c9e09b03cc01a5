"""A run: senders in processes, faults, what is watched meanwhile, and the account at the end."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.account import account_of_counts
from loadtest.blocks import BLOCK_S, block_of
from loadtest.counts import Counts
from loadtest.environment import environment
from loadtest.faults.inject import Injector, missing_means
from loadtest.faults.proxy import Proxy
from loadtest.histograms import Distribution, percentile
from loadtest.judge import fault_check, load_checks, slo_checks
from loadtest.result import Check, FaultLog, Result, Second
from loadtest.scenario.scenario import Scenario
from loadtest.seen import rss_mb
from loadtest.senders import end_senders, start_sender, wait_until_ready
from loadtest.target import Target, TargetError
from loadtest.task import STAGES, Tick, tasks_of
from loadtest.watch import Watch, server_checks
from workers.stream.connection import Servers, connect
from workers.wire.server_url import parse_server_url

_START_S = 0.3
_UNDO_S = 60.0
_MIN_SPAN_S = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """What is told while a run goes on: the last second, the counts so far, and the phase."""

    phase: str
    second: Second
    counts: Counts
    faults: Sequence[FaultLog]
    errors: Counter[str]


async def run_scenario(
    scenario: Scenario,
    target: Target,
    tell: Callable[[Progress], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> Result:
    """Run a scenario against a deployment and return what it has found.

    Args:
        scenario: from `load_scenario`.
        target: where it goes.
        tell: called each second.
        stop: ends the sending when it is set; what was sent is waited for all the same.

    Raises:
        TargetError: the deployment can't be tested so; nothing was sent.
        redis.exceptions.RedisError: its server can't be reached; nothing was sent.
    """
    problems = [
        f"{scenario.name}: faults[{index}]: {fault.do!r}: {problem}"
        for index, fault in enumerate(scenario.faults)
        if (problem := missing_means(fault, target))
    ]
    if scenario.fleet.through == "ingress" and not target.http_url:
        problems.append(f"{scenario.name}: fleet.through: the ingress's URL is not known: --http")
    if problems:
        raise TargetError("\n".join(problems))
    async with AsyncExitStack() as cleanup:
        servers = connect(target.url, cluster=target.cluster, timeout_s=5.0)
        cleanup.push_async_callback(servers.aclose)
        return await _Run(scenario, target, servers, tell).play(cleanup, stop or asyncio.Event())


class _Run:
    def __init__(
        self, scenario: Scenario, target: Target, servers: Servers, tell: Callable[[Progress], None]
    ) -> None:
        self._scenario, self._target, self._servers, self._tell = scenario, target, servers, tell
        self._names = ("steady", "all", "lateness", "ack", "added", *STAGES)
        self._distributions = {name: Distribution() for name in self._names}
        self._timeline: list[Second] = []
        self._faults: list[FaultLog] = []
        self._errors: Counter[str] = Counter()
        self._models: set[str] = set()
        self._last: dict[int, Tick] = {}
        self._new: list[Tick] = []
        self._ended: asyncio.Queue[int | Exception] = asyncio.Queue()
        self._start_s = 0.0
        self._told = Counts()
        self._cpu_s: float | None = None
        self._blocks: list[dict[str, int]] = []
        self._block: list[NDArray[np.float32]] = []

    async def play(self, cleanup: AsyncExitStack, stop: asyncio.Event) -> Result:
        environment_ = environment()
        watch = Watch(self._servers, self._target.partitions)
        before = await watch.ends()
        proxy = self._camera_proxy()
        if proxy is not None:
            cleanup.callback(proxy.close)
        tasks = tasks_of(self._scenario, self._target, proxy)
        parents = [start_sender(task) for task in tasks]
        cleanup.push_async_callback(end_senders, parents)
        ready = [
            asyncio.to_thread(wait_until_ready, process, parent) for process, parent in parents
        ]
        await asyncio.gather(*ready)
        self._start_s = time.monotonic() + _START_S
        for number, (_, parent) in enumerate(parents):
            parent.send(self._start_s)
            asyncio.get_running_loop().add_reader(parent.fileno(), self._receive, number, parent)
            cleanup.callback(asyncio.get_running_loop().remove_reader, parent.fileno())
        seed = self._scenario.run.seed
        injector = Injector(self._target, self._servers, proxy, seed, self._log)
        faults = asyncio.create_task(injector.play(self._scenario.faults, self._now_s))
        looking = asyncio.create_task(self._look(watch))
        stopping = asyncio.create_task(self._stop(stop, parents))
        try:
            for _ in parents:
                ended = await self._ended.get()
                if isinstance(ended, Exception):
                    raise ended
            if not stop.is_set():
                await asyncio.wait([faults], timeout=_UNDO_S)  # what was done is undone first
        finally:
            for each in (faults, looking, stopping):
                each.cancel()
            await asyncio.wait([faults, looking, stopping])
        if not faults.cancelled():
            faults.result()
        self._take(watch)
        checks = await server_checks(watch, before, self._counts(), self._num_lost())
        return self._result(environment_, checks, is_whole=not stop.is_set())

    def _now_s(self) -> float:
        return time.monotonic() - self._start_s

    def _log(self, what: str, event: str) -> None:
        self._faults.append(FaultLog(round(self._now_s(), 3), what, event))

    def _camera_proxy(self) -> Proxy | None:
        if not any(
            getattr(each, "of", "") in ("cameras", "both") for each in self._scenario.faults
        ):
            return None
        return Proxy(*parse_server_url(self._target.url).hosts[0])

    async def _stop(self, stop: asyncio.Event, parents: Any) -> None:  # noqa: ANN401
        await stop.wait()
        for _, parent in parents:
            parent.send("stop")

    def _receive(self, number: int, parent: Connection) -> None:
        try:
            told = parent.recv()
        except (EOFError, ConnectionResetError):
            told = RuntimeError("a sender has ended by itself: see what it printed")
        if isinstance(told, Tick):
            self._last[number] = told
            self._new.append(told)
            if told.is_last:
                self._leave(number, parent)
        else:
            self._leave(told, parent)

    def _leave(self, told: int | Exception, parent: Connection) -> None:
        asyncio.get_running_loop().remove_reader(parent.fileno())
        self._ended.put_nowait(told)

    async def _look(self, watch: Watch) -> None:
        at_s = 1.0
        while True:
            await asyncio.sleep(max(0.0, at_s + 0.2 - self._now_s()))
            await watch.look()
            self._take(watch)
            at_s += 1.0

    def _counts(self) -> Counts:
        total = Counts()
        for tick in self._last.values():
            total.add(tick.counts)
        return total

    def _num_lost(self) -> int:
        return sum(each.lost for each in self._last.values())

    def _take(self, watch: Watch) -> None:
        """Take in what the senders told since the last time: a second of the timeline."""
        new, self._new = self._new, []
        if not new:
            return
        values = {
            "steady": np.concatenate([each.steady_ms for each in new]),
            "all": np.concatenate([each.latency_ms for each in new]),
            "lateness": np.concatenate([each.lateness_ms for each in new]),
            "ack": np.concatenate([each.ack_ms for each in new]),
            "added": np.concatenate([each.added_ms for each in new]),
            **{name: np.concatenate([each.stages_ms[name] for each in new]) for name in STAGES},
        }
        for name, several in values.items():
            self._distributions[name].add(several)
        for tick in new:
            self._errors.update(tick.errors)
            self._models |= tick.models
        counts = self._counts()
        now_s = self._now_s()
        self._fill_block(values["steady"], now_s)
        begun_s = self._timeline[-1].at_s if self._timeline else 0.0
        span_s = max(now_s - begun_s, 1e-3)
        verdicts, others = _said(counts), _said(counts, verdicts=False)
        cpu_s = sum(each.cpu_s for each in self._last.values())
        second = Second(
            at_s=round(now_s, 2),
            due_fps=round((_due(counts) - _due(self._told)) / span_s, 1),
            verdict_fps=round((verdicts - _said(self._told)) / span_s, 1),
            no_decision_fps=round((others - _said(self._told, verdicts=False)) / span_s, 1),
            p50_ms=percentile(values["all"], 50),
            p99_ms=percentile(values["all"], 99),
            waiting=watch.waiting,
            pending=watch.pending,
            held=sum(each.waiting for each in self._last.values()),
            replicas=len(set().union(*(each.replicas for each in new))),
            server_mb=watch.server_mb,
            replica_mb=self._replica_mb(),
            sender_mb=round(sum(each.rss_mb for each in self._last.values()), 1),
            lateness_ms=percentile(values["lateness"], 99),
            sender_cpu=self._cores_used(cpu_s, span_s),
        )
        self._told = replace(counts, statuses=counts.statuses.copy(), said=counts.said.copy())
        self._timeline.append(second)
        run = self._scenario.run
        phase = (
            "warm-up" if now_s < run.warm_up else "steady" if now_s < run.load_s else "cool-down"
        )
        self._tell(Progress(phase, second, counts, self._faults, self._errors))

    def _cores_used(self, cpu_s: float, span_s: float) -> float:
        """Return the cores that the senders use; of less than half a second nothing can be said."""
        before_s = self._cpu_s
        if span_s < _MIN_SPAN_S and self._timeline:
            return self._timeline[-1].sender_cpu
        self._cpu_s = cpu_s
        return 0.0 if before_s is None else round((cpu_s - before_s) / span_s, 3)

    def _replica_mb(self) -> float | None:
        controls = self._target.controls
        pids = [] if controls is None else controls.replica_pids()
        return round(sum(map(rss_mb, pids)), 1) if pids else None

    def _fill_block(self, steady_ms: NDArray[np.float32], now_s: float) -> None:
        if steady_ms.size:
            self._block.append(steady_ms)
        if now_s >= self._scenario.run.warm_up + BLOCK_S * (len(self._blocks) + 1) and self._block:
            self._blocks.append(block_of(np.concatenate(self._block)))
            self._block = []

    def _result(
        self, environment_: dict[str, Any], checks: list[Check], *, is_whole: bool
    ) -> Result:
        run, counts = self._scenario.run, self._counts()
        load_s = run.load_s if is_whole else min(run.load_s, self._now_s())
        account = account_of_counts(counts, self._num_lost(), load_s, min(run.warm_up, load_s))
        account["errors"] = dict(self._errors.most_common(20))
        last = self._last.values()
        environment_ |= {
            "target": self._target.what,
            "models": sorted(self._models),
            "sender_rss_mb": [round(each.rss_mb, 1) for each in last],
            "sender_us_a_frame": round(1e6 * sum(each.cpu_s for each in last) / account["due"], 1)
            if account["due"]
            else None,
            "book_mb": round(sum(each.book_bytes for each in last) / 2**20, 2),
        }
        if not is_whole:
            checks.append(Check("the run was whole", False, f"it was stopped after {load_s:.0f} s"))
        lateness = self._distributions["lateness"]
        checks += load_checks(self._scenario, lateness, self._timeline, len(last))
        checks.append(fault_check(self._faults))
        return Result(
            scenario=self._scenario.model_dump(mode="json", exclude={"name"}),
            name=self._scenario.name,
            environment=environment_,
            account=account,
            latency={name: each.encode() for name, each in self._distributions.items()},
            blocks=self._blocks,
            timeline=self._timeline,
            faults=self._faults,
            checks=checks,
            slo=slo_checks(self._scenario, account, self._distributions["steady"]),
        )


def _due(counts: Counts) -> int:
    return sum(count for (_, status), count in counts.statuses.items() if status == "due")


def _said(counts: Counts, *, verdicts: bool = True) -> int:
    return sum(
        count
        for (_, _, said), count in counts.said.items()
        if (said in ("bona_fide", "attack")) == verdicts
    )
