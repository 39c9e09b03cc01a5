"""A plain loop over redis-py: what one writes in an afternoon, with none of the promises.

python -m loadtest.bench.peers.loop_peer URL
"""

import signal
import sys
from typing import Any

import redis

from loadtest.bench.peers.judging import FrameJudge, settings

FRAMES, DECISIONS, GROUP = "loop:frames", "loop:decisions", "loop"


def main() -> None:
    """Judge what comes, until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    judge, client = FrameJudge(settings()), redis.Redis.from_url(sys.argv[1])
    client.xgroup_create(FRAMES, GROUP, "0", mkstream=True)
    while not stop:
        found: Any = client.xreadgroup(GROUP, "one", {FRAMES: ">"}, settings().max_batch, 100)
        rows = found[0][1] if found else []
        if not rows:
            continue
        answers = judge.judge([judge.open(fields[b"s"] + fields[b"f"]) for _, fields in rows])
        pipe = client.pipeline(transaction=False)
        for (entry_id, _), answer in zip(rows, answers, strict=True):
            pipe.xadd(DECISIONS, {"id": entry_id, "d": answer}, maxlen=10_000, approximate=True)
        ids = [entry_id for entry_id, _ in rows]
        pipe.xack(FRAMES, GROUP, *ids)
        pipe.xdel(FRAMES, *ids)
        pipe.execute()


if __name__ == "__main__":
    main()
