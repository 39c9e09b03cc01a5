"""Which errors the command tells in one line, with what to do; any other keeps its traceback.

Told are our own (the four package roots), a setting that breaks its rule, a server that can't be
used, and what the operating system says of a file, a disk or a port. Nothing else: a ValueError
out of a library is a mistake of ours, and its traceback is what helps to mend it.
"""

import errno
import sys
from pathlib import Path

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis-py's own name
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TimeoutError,  # noqa: A004 - redis-py's own name
)

from deploy.commands.extras import missing_extra
from deploy.errors import DeployError
from loadtest.errors import LoadtestError
from model.errors import ModelError
from workers.errors import WorkerError

_OWN = (DeployError, LoadtestError, WorkerError, ModelError)

# The first that fits: subclasses stand before what they derive from.
_OF_SERVER: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "put user and password into its URL: redis://user:password@host:port/0"),
    (NoPermissionError, "its user may not do that: see its ACL"),
    (BusyLoadingError, "it loads its data: try again when it is ready"),
    (ReadOnlyError, "it is a replica: name the primary"),
    (OutOfMemoryError, "it is full: raise its maxmemory, or let replicas catch up"),
    (TimeoutError, "it does not answer: is it there, and is the network in between?"),
    (ConnectionError, "is it running? `livegate up` starts one, --redis names another"),
    (RedisClusterException, "is it a cluster, and are its nodes running?"),
    (RedisError, "see the server's log"),
)
_OF_SYSTEM = {
    errno.EACCES: "give this user access, or choose another place",
    errno.EPERM: "give this user access, or choose another place",
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "a part of the name is a file: choose another one",
    errno.EISDIR: "it is a folder: name a file",
    errno.EEXIST: "choose another name, or move away what is there",
    errno.ENOTEMPTY: "choose another name, or move away what is there",
    errno.ENOSPC: "make room on the disk, then give the same command again",
    errno.EDQUOT: "make room in the quota, then give the same command again",
    errno.EROFS: "choose a place that can be written to",
    errno.EADDRINUSE: "stop what listens there, or choose another port",
    errno.EADDRNOTAVAIL: "choose an address of this machine",
    errno.ECONNREFUSED: "is it running?",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


def lines_for(error: BaseException) -> list[str] | None:
    """Return what to tell of an error, a line for each problem; None: show its traceback."""
    if isinstance(error, _OWN):
        return str(error).splitlines() or [type(error).__name__]
    if isinstance(error, ModuleNotFoundError):
        missing = missing_extra(error)
        return None if missing is None else [str(missing)]
    if "pydantic" in sys.modules and (lines := _of_settings(error)):
        return lines
    if isinstance(error, RedisError | RedisClusterException):
        return [_of_server(error)]
    if isinstance(error, OSError) and error.errno in _OF_SYSTEM:
        name = "" if error.filename is None else f"{Path(str(error.filename))}: "
        return [f"{name}{error.strerror}: {_OF_SYSTEM[error.errno]}"]
    return None


def _of_server(error: Exception) -> str:
    what_to_do = next(told for kind, told in _OF_SERVER if isinstance(error, kind))
    return f"the server: {' '.join(str(error).split()) or type(error).__name__} - {what_to_do}"


def _of_settings(error: BaseException) -> list[str]:
    # Here, not above: a camera's installation has no pydantic, and then no settings either.
    from pydantic import ValidationError

    from workers.settings import Settings, problems_of

    if not isinstance(error, ValidationError):
        return []
    ours, kinds = set(), [Settings]
    while kinds:
        kind = kinds.pop()
        ours.add(kind.__name__)
        kinds += kind.__subclasses__()
    if error.title not in ours:
        return []
    return [f"{'.'.join(map(str, loc)) or error.title}: {what}" for loc, what in problems_of(error)]
