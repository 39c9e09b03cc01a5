"""A replica that thinks nothing: each frame is decided as it is read, by one that costs no time.

    python -m loadtest.null_replica '{"url": ..., "partitions": 4}' [KEY_FILE]

What a load test measures against it is the load test itself: its own latency, and the rate that
its senders can reach. It keeps none of the product's promises.
"""

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import redis
from redis.exceptions import RedisError, ResponseError

from workers.settings import StreamSettings
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, pack_decision
from workers.wire.keyring import read_keys
from workers.wire.signing import door_key, sign

_PAGE = 200
_KEPT = 100_000


class NullReplica:
    """Decides whatever there is."""

    def __init__(self, settings: StreamSettings, door_keys: dict[str, bytes]) -> None:
        """Connect to nothing yet; `door_keys` sign the decisions of the cameras that have one."""
        self._client = redis.Redis.from_url(settings.url)
        self._door_keys = door_keys
        self._streams = {keys.frames(each).encode(): each for each in range(settings.partitions)}
        self.num_decided = 0

    def join(self) -> None:
        """Make the consumer groups, where they are missing."""
        for name in self._streams:
            with suppress(ResponseError):
                self._client.xgroup_create(name, keys.GROUP, "0", mkstream=True)

    def work(self, block_ms: int = 100) -> None:
        """Decide what waits now, or comes meanwhile."""
        wanted = dict.fromkeys(self._streams, ">")
        found: Any = self._client.xreadgroup(keys.GROUP, "null", wanted, _PAGE, block_ms)  # type: ignore[arg-type]
        if not found:
            return
        pipe = self._client.pipeline(transaction=False)
        for name, rows in found:
            partition = self._streams[name]
            for entry_id, fields in rows:
                packed, signature = self._decision(entry_id.decode(), fields)
                said = {"d": packed, **({"s": signature} if signature else {})}
                pipe.xadd(keys.decisions(partition), said, maxlen=_KEPT, approximate=True)  # type: ignore[arg-type]
            ids = [entry_id for entry_id, _ in rows]
            pipe.xack(name, keys.GROUP, *ids)
            pipe.xdel(name, *ids)
            self.num_decided += len(rows)
        pipe.execute()

    def _decision(self, entry_id: str, fields: dict[bytes, bytes]) -> tuple[bytes, bytes | None]:
        body = msgpack.unpackb(fields[b"f"])
        decision = Decision(
            camera_id=body["camera_id"],
            seq=body["seq"],
            presentation_id=body.get("presentation_id"),
            entry_id=entry_id,
            captured_at_ms=body["captured_at_ms"],
            decided_at_ms=int(time.time() * 1000),
            outcome=Outcome.BONA_FIDE,
            reason=None,
            score=1.0,
            threshold=0.5,
            modalities=(),
            evidence={},
            model="null",
            replica="null",
            batch_size=1,
            timing_ms={"total": 0.0},
        )
        packed = pack_decision(decision)
        key = self._door_keys.get(decision.camera_id or "")
        return packed, None if key is None else sign(packed, key)


def main() -> None:
    """Decide until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    door_keys = {}
    if len(sys.argv) > 2:
        door_keys = {name: door_key(each[0]) for name, each in read_keys(Path(sys.argv[2])).items()}
    replica = NullReplica(StreamSettings.model_validate_json(sys.argv[1]), door_keys)
    while not stop:
        try:
            replica.join()
            while not stop:
                replica.work()
        except RedisError:
            time.sleep(0.05)


if __name__ == "__main__":
    main()
