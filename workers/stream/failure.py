"""The one place that says what a failed Redis command means, and so what to do about it.

transient                  try again, with pauses
+-- LINE         the connection broke or timed out: the command may have been run all the same
+-- NOT_NOW      the server refused, did nothing, and will take it later
+-- NOT_PRIMARY  the same, and this connection leads to a server that takes no writes: connect anew
+-- MOVED        another server of the cluster has the key: nothing was done here
+-- FULL         the server is out of memory: nothing was done
permanent
+-- NO_GROUP     the consumer group is gone: the server lost its data
+-- REFUSED      it will be refused again: a wrong type, a missing permission, a wrong password
"""

from enum import Enum, auto

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    ConnectionError,  # noqa: A004 - redis-py's own name
    InvalidResponse,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - redis-py's own name
    TryAgainError,
)

# All that a command can raise. A cluster of which no server answers is no RedisError to redis-py.
FAILURES: tuple[type[Exception], ...] = (RedisError, RedisClusterException, OSError)


class Failure(Enum):
    """What a failed command means; see the module."""

    LINE = auto()
    NOT_NOW = auto()
    NOT_PRIMARY = auto()
    MOVED = auto()
    FULL = auto()
    NO_GROUP = auto()
    REFUSED = auto()

    @property
    def is_transient(self) -> bool:
        """Whether it passes by itself."""
        return self not in (Failure.NO_GROUP, Failure.REFUSED)

    @property
    def may_have_run(self) -> bool:
        """Whether the command may have been run although it failed: its reply was lost."""
        return self is Failure.LINE


# By class, the first that fits: redis-py makes a refused password a ConnectionError.
_BY_CLASS: tuple[tuple[tuple[type[Exception], ...], Failure], ...] = (
    ((AuthenticationError, AuthorizationError), Failure.REFUSED),
    ((BusyLoadingError, TryAgainError), Failure.NOT_NOW),
    ((ReadOnlyError, MasterDownError), Failure.NOT_PRIMARY),
    ((ClusterDownError,), Failure.NOT_NOW),
    ((AskError,), Failure.MOVED),
    ((OutOfMemoryError,), Failure.FULL),
    ((ClusterError, RedisClusterException), Failure.MOVED),
    ((ConnectionError, TimeoutError, InvalidResponse, OSError), Failure.LINE),
)
# By the first word of the server's answer, where redis-py has no class for it.
_BY_CODE = {
    "BUSY": Failure.NOT_NOW,
    "CLUSTERDOWN": Failure.NOT_NOW,
    "LOADING": Failure.NOT_NOW,
    "MASTERDOWN": Failure.NOT_PRIMARY,
    "MISCONF": Failure.NOT_NOW,
    "NOGROUP": Failure.NO_GROUP,
    "NOREPLICAS": Failure.NOT_NOW,
    "OOM": Failure.FULL,
    "READONLY": Failure.NOT_PRIMARY,
    "TRYAGAIN": Failure.NOT_NOW,
    "UNBLOCKED": Failure.NOT_PRIMARY,
}


def failure_of(error: Exception) -> Failure:
    """Return what `error`, one of `FAILURES`, means."""
    for classes, failure in _BY_CLASS:
        if isinstance(error, classes):
            return failure
    return failure_of_answer(str(error)) if isinstance(error, ResponseError) else Failure.REFUSED


def failure_of_answer(answer: str) -> Failure:
    """Return what an error means that a script passed on as text."""
    if "access a non local key" in answer:
        return Failure.MOVED
    return _BY_CODE.get(answer.partition(" ")[0], Failure.REFUSED)
