"""The servers that each promise of a stream is tried on."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.workers.stream.bench import MAX_SEQS, PRESENTATION, Bench, MemoryBench, RedisBench
from tests.workers.stream.cluster import Cluster, started_cluster
from workers.settings import StreamSettings


@pytest.fixture(
    params=["memory", "stream_settings", "redis_settings"], ids=["memory", "valkey", "redis"]
)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        made: MemoryBench | RedisBench = MemoryBench(
            StreamSettings(
                partitions=2,
                lease_ms=200,
                block_ms=20,
                max_seqs=MAX_SEQS,
                presentation=PRESENTATION,
            )
        )
    else:
        made = RedisBench(request.getfixturevalue(request.param))
    yield made
    await made.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made
