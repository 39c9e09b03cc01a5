"""Ray Serve by HTTP: frames are opened in threads, and judged in batches of `@serve.batch`.

python -m loadtest.bench.peers.serve_peer PORT
"""

import asyncio
import os
import signal
import sys
import threading

import ray
from fastapi import Request, Response
from ray import serve

from loadtest.bench.peers.judging import SETTINGS, WAIT_S, FrameJudge, Opened, settings

_BATCH = settings().max_batch if SETTINGS in os.environ else 16


@serve.deployment(max_ongoing_requests=8 * _BATCH, ray_actor_options={"num_cpus": 1})
class Peer:
    """The one replica."""

    def __init__(self) -> None:
        """Load the engine."""
        self._judge = FrameJudge(settings())

    async def __call__(self, request: Request) -> Response:
        """Open one frame, and answer with its decision."""
        opened = await asyncio.to_thread(self._judge.open, await request.body())
        return Response(await self.judge(opened), media_type="application/octet-stream")

    @serve.batch(max_batch_size=_BATCH, batch_wait_timeout_s=WAIT_S)
    async def judge(self, batch: list[Opened]) -> list[bytes]:
        """Judge one batch."""
        return await asyncio.to_thread(self._judge.judge, batch)


if __name__ == "__main__":
    names = [name for name in (SETTINGS, "PYTHONPATH") if name in os.environ]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {name: os.environ[name] for name in names}},
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Peer.bind(), route_prefix="/")  # type: ignore[attr-defined] # Serve's
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()
