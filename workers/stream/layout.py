"""What the stream needs of its servers, checked before anything is read from them.

A server that is away hides only itself: the others are checked and used meanwhile. It is checked
when a replica starts while it is there.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from workers.errors import WorkerError
from workers.settings import StreamSettings
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES, failure_of
from workers.stream.scripts import script
from workers.stream.server import Server
from workers.wire import keys
from workers.wire.frame import CODECS

_log = logging.getLogger(__name__)

_OLDEST = (7, 0)
_BULK_BYTES = 1 << 20
# What a door depends on; the second part says what is lost otherwise.
_WANTED = {
    "appendonly": (("yes",), "frames and decisions are lost when the server restarts"),
    "appendfsync": (
        ("always",),
        "what was acknowledged last can be lost, or decided again, when "
        "the server's machine fails or is killed amid a slow write",
    ),
    "maxmemory-policy": (("noeviction",), "a full server throws away whole streams"),
    "save": (("",), "a snapshot keeps the faces of frames that waited then"),
}


class StreamError(WorkerError):
    """The server refuses what this product needs of it; the message says what to change."""


@dataclass(slots=True)
class Layout:
    """How the partitions lie on the servers.

    Attributes:
        groups: the partitions, in shard groups: one for each server that has any.
        findings: what is wrong with the servers' settings, or with a server.
        unusable: why a partition can't be used, by its number.
        is_ready: at least one server is there.
    """

    groups: list[list[int]]
    findings: list[str] = field(default_factory=list)
    unusable: dict[int, str] = field(default_factory=dict)
    is_ready: bool = False


def copies(servers: Servers) -> range:
    """Return the numbers of the copies that there are of what all replicas must know."""
    return range(keys.NUM_COPIES if servers.is_cluster else 1)


async def lay_out(servers: Servers, settings: StreamSettings, consumer: str) -> Layout:
    """Make what is missing on the servers and return how they are.

    Raises:
        StreamError: a server is too old or refuses a command, or frames of another layout wait.
        redis.exceptions.RedisError: no server can be reached.
    """
    names = [keys.frames(partition) for partition in range(settings.partitions)]
    groups = await servers.groups(names)
    layout = Layout([[keys.number_of(name) for name in group] for group in groups])
    try:
        await _check_partitions(servers, settings)
    except NoPermissionError as error:
        raise _refused(str(error)) from error
    await _tell_codecs(servers)
    owners = [await servers.of(group[0]) for group in groups]
    checks = (
        _prepare(servers, owner, group, consumer, layout)
        for owner, group in zip(owners, groups, strict=True)
    )
    for group, failed in zip(groups, await _settled(checks), strict=True):
        if failed is None:
            layout.is_ready = True
        elif failure_of(failed).is_transient:
            layout.findings.append(f"the server of {group[0]} can't be used for now: {failed}")
        else:
            raise StreamError(f"the server of {group[0]} refuses: {failed}") from failed
    return layout


async def _settled(checks: Any) -> list[Exception | None]:  # noqa: ANN401
    """Let all checks end, and return the failure of each."""
    failures: list[Exception | None] = []
    for result in await asyncio.gather(*checks, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, FAILURES):
            raise result
        failures.append(result)
    return failures


async def _prepare(
    servers: Servers, server: Server, names: Sequence[str], consumer: str, layout: Layout
) -> None:
    layout.findings += await _check(server, is_cluster=servers.is_cluster)
    for name in names:
        try:
            await servers.run(script("join"), [name], [keys.GROUP])
        except NoPermissionError as error:
            raise _refused(str(error)) from error
        except ResponseError as error:
            if failure_of(error).is_transient:
                raise
            layout.unusable[keys.number_of(name)] = str(error)
    absent = keys.seen(keys.number_of(names[0]), "-", "-")
    refusals = await servers.run(script("probe"), [names[0], absent], [keys.GROUP, consumer])
    if refusals:
        raise _refused("; ".join(text.decode(errors="replace") for text in refusals))


def _refused(why: str) -> StreamError:
    return StreamError(f"the server's ACL refuses what a replica needs: {why}")


async def _check(server: Server, *, is_cluster: bool) -> list[str]:
    info: Any = await server.execute("INFO", "server")
    version = str(info.get("redis_version", "0.0"))
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < _OLDEST:
        raise StreamError(
            f"the server is Redis {version}: 7.0 is the oldest that can be used, or any Valkey"
        )
    mode = info.get("server_mode") or info.get("redis_mode")  # Valkey's name, and Redis's
    if mode is not None and (mode == "cluster") != is_cluster:
        here = "is none of a cluster" if is_cluster else "is one of a cluster"
        raise StreamError(f"the server {here}: set cluster: {str(not is_cluster).lower()}")
    try:
        rows: Any = await server.execute(
            "CONFIG GET", *_WANTED, "auto-aof-rewrite-percentage", "proto-max-bulk-len"
        )
    except (NoPermissionError, ResponseError):
        return []  # a hosted server does not tell; its settings are the operator's to check
    findings = [
        f"{name} is {rows[name]}, should be {' or '.join(wanted) or 'empty'}: {loss}"
        for name, (wanted, loss) in _WANTED.items()
        if name in rows and rows[name] not in wanted
    ]
    if rows.get("auto-aof-rewrite-percentage") == "0":
        findings.append(
            "auto-aof-rewrite-percentage is 0, should be 100: the faces of frames that are "
            "decided stay in the append-only file"
        )
    limit = int(rows.get("proto-max-bulk-len", _BULK_BYTES))
    if limit > _BULK_BYTES:
        findings.append(
            f"proto-max-bulk-len is {limit}, should be {_BULK_BYTES} (1mb): whoever may "
            "publish can fill the server with a few entries"
        )
    return findings


async def _tell_codecs(servers: Servers) -> None:
    """Let cameras know what they may send; one that is not told sends what all deployments take."""
    name = keys.codecs(0)
    try:
        await servers.run(script("layout"), [name], [" ".join(CODECS)])
    except FAILURES as error:
        _log.warning("cameras are not told which codecs are taken: %s", error)


async def _check_partitions(servers: Servers, settings: StreamSettings) -> None:
    """Refuse to start while frames wait where nobody would read them, or in the wrong place."""
    names = [keys.layout(copy) for copy in copies(servers)]
    answers = await asyncio.gather(
        *(servers.run(script("layout"), [name], []) for name in names), return_exceptions=True
    )
    failed = [each for each in answers if isinstance(each, BaseException)]
    if len(failed) == len(answers):
        raise failed[0]
    noted = {int(each) for each in answers if isinstance(each, bytes)}
    if settings.partitions in noted:
        return
    for old in noted:
        waiting = total(await read_backlog(servers, range(old))).entries
        if waiting:
            raise StreamError(
                f"{waiting} frames wait in {old} partitions, this deployment has "
                f"{settings.partitions}: run it with partitions: {old} until they are decided"
            )
    for name in names:  # all of them, or it is not noted: one that kept the old number would lie
        await servers.run(script("layout"), [name], [settings.partitions])
