"""How this product connects to Redis or Valkey: one place for time-outs and the no-retry rule.

redis-py retries a command whose reply got lost. For a write that means twice: one XADD leaves two
entries. So every client here is made with no retries at all, and whoever calls decides what a
lost reply means for it.
"""

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's own name
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TimeoutError,  # noqa: A004 - redis-py's own name
    TryAgainError,
)
from redis.retry import Retry

# The server said "not now" and did nothing: it restarts, loads its file, or fails over.
NOT_NOW: tuple[type[Exception], ...] = (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    TryAgainError,
)
# What passes by itself: the above, or the line broke. A cluster of which no server answers is no
# RedisError to redis-py.
UNAVAILABLE: tuple[type[Exception], ...] = (
    *NOT_NOW,
    ConnectionError,
    TimeoutError,
    RedisClusterException,
)
FAILURES: tuple[type[Exception], ...] = (RedisError, RedisClusterException, OSError)

AsyncClient = redis.asyncio.Redis | RedisCluster


def connect(url: str, *, cluster: bool = False, timeout_s: float = 2.0) -> AsyncClient:
    """Return an asyncio client; nothing is sent before the first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user and password where needed.
        cluster: the server at `url` is one of a Redis Cluster.
        timeout_s: how long to connect, and how long to wait for a reply. A read that blocks
            needs more than it blocks for.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "retry": AsyncRetry(NoBackoff(), 0),
    }
    if cluster:
        return RedisCluster.from_url(url, **options)
    return redis.asyncio.Redis.from_url(url, **options)


def connect_blocking(
    url: str, *, cluster: bool = False, timeout_s: float = 2.0
) -> "redis.Redis | redis.RedisCluster":
    """Return a client for threads, under the same rules; arguments as for `connect`."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
    }
    if cluster:
        return redis.RedisCluster.from_url(url, **options)
    return redis.Redis.from_url(url, **options)
