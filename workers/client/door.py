"""The door's side: what an integrator imports to read decisions and to act on them.

    door = Door(connect(url, timeout_s=5), "gate-1", door_key, partitions=4)
    async for verdict in door.verdicts():
        if door.opens(verdict, now_ms=time.time() * 1000):
            unlock()

A camera that says which frames belong to one presentation gets a verdict on it, which is wrong far
less often than the decision on one frame. Where it does not, `door.decisions()` has the frames'.

It says that somebody is there, not who: `deploy/THREATS.md` has what to combine it with.
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from workers.client.lines import checked_partitions, layout_of, wrong_layout
from workers.client.pictures import CameraError
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES, failure_of
from workers.stream.server import is_cancelled
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, unpack_decision
from workers.wire.frame import CAMERA_ID
from workers.wire.presentation import PresentationVerdict, unpack_verdict
from workers.wire.signing import checked_keys, sign

_BLOCK_MS = 500
_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0
_PAGE = 500

# The fields of which an entry has one: it tells of a frame, or of a presentation.
_KINDS = {b"d", b"p"}

_log = logging.getLogger(__name__)
_Told = TypeVar("_Told", Decision, PresentationVerdict)


def opens_door(
    decision: Decision | PresentationVerdict,
    now_ms: float,
    max_age_ms: int = 3000,
    max_ahead_ms: int = 1000,
) -> bool:
    """Say whether a decision is one that a door may open on: a fresh `bona_fide`.

    Args:
        decision: on a frame or a presentation, of this door's camera.
        now_ms: the door controller's clock, Unix ms.
        max_age_ms: how long after its capture a frame may still open the door. A decision that
            was read late, say after a network failure, opens nothing.
        max_ahead_ms: how far its stamps may lie ahead of the door controller's clock: a clock that
            is behind would make any age look fresh.
    """
    if decision.outcome is not Outcome.BONA_FIDE or decision.captured_at_ms is None:
        return False
    ages_ms = (now_ms - decision.captured_at_ms, now_ms - decision.decided_at_ms)
    return all(-max_ahead_ms <= age_ms <= max_age_ms for age_ms in ages_ms)


class Door:
    """One door: it opens for its own camera's signed decisions, once for each of them."""

    def __init__(
        self,
        servers: Servers,
        camera_id: str,
        door_key: bytes | Sequence[bytes] | None,
        *,
        partitions: int,
        max_age_ms: int = 3000,
        max_ahead_ms: int = 1000,
    ) -> None:
        """Read nothing yet.

        Args:
            servers: from `workers.stream.connection.connect`, with a time-out above 1 s.
            camera_id: the camera of this door.
            door_key: 32 bytes, from `livegate keys export --door` (several while the camera's key
                is rotated); None where the deployment takes unsigned frames.
            partitions: the deployment's number of partitions.
            max_age_ms: as in `opens_door`.
            max_ahead_ms: as in `opens_door`.

        Raises:
            KeyRefused: the door key is none.
            CameraError: there can be no such camera, or no such number of partitions.
        """
        if not isinstance(camera_id, str) or not CAMERA_ID.fullmatch(camera_id):
            raise CameraError(f"{camera_id!r:.80} is no camera id: 1 to 64 of A-Z a-z 0-9 . _ -")
        self._servers = servers
        self._camera_id = camera_id
        self._door_keys = checked_keys(door_key)
        self._limits = (max_age_ms, max_ahead_ms)
        self._partitions = checked_partitions(partitions)
        partition = keys.partition_of(camera_id, self._partitions)
        self._stream = keys.camera_decisions(partition, camera_id)
        self._opened: dict[tuple[int, str | None], float] = {}

    async def decisions(self, after_id: str = "$") -> AsyncIterator[Decision]:
        """Yield the decisions on the camera's frames as they are committed, for ever.

        What is not signed with the door key, or is of another camera, is skipped and logged.

        Args:
            after_id: id of the last entry known; "$": only new ones; "0": all that are kept.

        Raises:
            CameraError: the deployment has another number of partitions: nothing would ever come.
        """
        async for decision in self._told(b"d", unpack_decision, after_id):
            yield decision

    async def verdicts(self, after_id: str = "$") -> AsyncIterator[PresentationVerdict]:
        """Yield the verdicts on presentations before the camera; else as `decisions`."""
        async for verdict in self._told(b"p", unpack_verdict, after_id):
            yield verdict

    async def _told(
        self, field: bytes, unpacked: Callable[[bytes], _Told], after_id: str
    ) -> AsyncIterator[_Told]:
        name = self._stream
        after = await last_ids(self._servers, [name]) if after_id == "$" else {name: after_id}
        laid_out = await layout_of(self._servers)
        if laid_out not in (None, self._partitions):
            raise CameraError(wrong_layout(laid_out, self._partitions))
        async for entry_id, fields in entries(self._servers, after):
            if (packed := fields.get(field)) is None and len(_KINDS & fields.keys()) == 1:
                continue  # it tells something else
            if not self._is_signed(packed or b"", fields.get(b"s", b"")):
                _log.error("decision %s is not signed with the door key: skipped", entry_id)
            elif (told := _read(entry_id, packed or b"", unpacked)) is not None:
                if told.camera_id == self._camera_id:
                    yield told
                else:
                    _log.error("decision %s is of another camera: skipped", entry_id)

    def _is_signed(self, packed: bytes, signature: bytes) -> bool:
        signatures = [sign(packed, key) for key in self._door_keys]
        return not signatures or any(hmac.compare_digest(each, signature) for each in signatures)

    def opens(self, decision: Decision | PresentationVerdict, now_ms: float) -> bool:
        """Say whether to open on a decision, and note it: a second one of that seq opens nothing.

        Args:
            decision: from `decisions` or `verdicts`.
            now_ms: the door controller's clock, Unix ms.
        """
        max_age_ms, max_ahead_ms = self._limits
        if decision.camera_id != self._camera_id or decision.seq is None:
            return False
        is_frame = isinstance(decision, Decision)
        which = (decision.seq, None if is_frame else decision.presentation_id)
        if which in self._opened or not opens_door(decision, now_ms, max_age_ms, max_ahead_ms):
            return False
        # After that, it is too old to open anything anyway.
        self._opened = {old: until for old, until in self._opened.items() if until >= now_ms}
        self._opened[which] = now_ms + max_age_ms + max_ahead_ms
        return True


async def last_ids(servers: Servers, names: Iterable[str]) -> dict[str, str]:
    """Return the id of each stream's newest entry: `follow` it from now on.

    The server's own "$" would skip what is added between two reads. An unreachable server is
    waited for.
    """
    newest: dict[str, str] = {}
    for name in names:
        rows = await _patiently(servers, name, "XREVRANGE", name, "+", "-", "COUNT", 1)
        newest[name] = rows[0][0].decode() if rows else "0"
    return newest


async def follow(servers: Servers, after: Mapping[str, str]) -> AsyncIterator[tuple[str, Decision]]:
    """Yield (entry id, decision) of several decision streams, for ever, whoever signed them.

    Verdicts on presentations are left out, and so is, logged, an entry that can't be read.

    Args:
        servers: as for `entries`.
        after: as for `entries`.
    """
    async for entry_id, fields in entries(servers, after):
        told = read_entry(entry_id, fields)
        if isinstance(told, Decision):
            yield entry_id, told


def read_entry(
    entry_id: str, fields: Mapping[bytes, bytes]
) -> Decision | PresentationVerdict | None:
    """Return what an entry of a decision stream tells; None, logged, if it can't be read."""
    if b"p" in fields:
        return _read(entry_id, fields[b"p"], unpack_verdict)
    return _read(entry_id, fields.get(b"d", b""), unpack_decision)


async def entries(
    servers: Servers, after: Mapping[str, str]
) -> AsyncIterator[tuple[str, Mapping[bytes, bytes]]]:
    """Yield (entry id, fields) of several decision streams, for ever.

    An unreachable server is waited for; what was committed meanwhile comes afterwards.

    Args:
        servers: from `workers.stream.connection.connect`, with a time-out above 1 s.
        after: the last entry id known, by the stream's name.
    """
    # Streams that one read can cover are read by one task.
    found: asyncio.Queue[tuple[str, Mapping[bytes, bytes]]] = asyncio.Queue(_PAGE)
    # A server that is away keeps back its own streams only.
    readers = [
        asyncio.create_task(_read_on(servers, {name: after[name] for name in names}, found))
        for names in await servers.groups(after)
    ]
    try:
        while True:
            coming = asyncio.ensure_future(found.get())
            await asyncio.wait([coming, *readers], return_when=asyncio.FIRST_COMPLETED)
            if ended := [reader for reader in readers if reader.done()]:
                coming.cancel()
                ended[0].result()  # raises what ended it
            yield coming.result()
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)


async def _read_on(
    servers: Servers,
    last: dict[str, str],
    found: "asyncio.Queue[tuple[str, Mapping[bytes, bytes]]]",
) -> None:
    # One read of a cluster covers one slot: several streams there are asked by turns.
    is_one_read = len(last) == 1 or not servers.is_cluster
    head = ("XREAD", "COUNT", _PAGE, *(("BLOCK", _BLOCK_MS) if is_one_read else ()), "STREAMS")
    reads = [list(last)] if is_one_read else [[name] for name in last]
    while not is_cancelled():
        has_found = False
        for names in reads:
            answer = await _patiently(servers, names[0], *head, *names, *map(last.get, names))
            for name, rows in answer or ():
                has_found = True
                for entry_id, fields in rows:
                    last[name.decode()] = entry_id.decode()
                    await found.put((entry_id.decode(), fields))
        if not (is_one_read or has_found):
            await asyncio.sleep(_FIRST_PAUSE_S)


async def _patiently(servers: Servers, key: str, *args: Any) -> Any:  # noqa: ANN401
    """Run a command that only reads until the server answers it."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await servers.execute(key, *args)
        except FAILURES as error:
            if not failure_of(error).is_transient:
                raise
            _log.warning("decisions can't be read, trying again: %s", error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LAST_PAUSE_S)


def _read(entry_id: str, packed: bytes, unpacked: Callable[[bytes], _Told]) -> _Told | None:
    try:
        return unpacked(packed)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is skipped alone
        _log.error("decision %s can't be read, skipped: %s", entry_id, type(error).__name__)
        return None
