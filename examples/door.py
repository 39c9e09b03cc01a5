"""A door, with Livegate's client: opens on a fresh `bona_fide` of its camera, and on nothing else.

    .venv/bin/python examples/door.py

in the folder where `livegate up` runs; Ctrl-C ends it.
"""

# README.md prints what follows.
import asyncio
import time

from deploy.local.home import Home
from workers.client.door import decisions_of, opens_door
from workers.stream.connection import connect


async def watch(camera_id: str) -> None:
    address = Home().address()
    client = connect(address.redis_url, cluster=address.cluster, timeout_s=5)
    async for decision in decisions_of(client, camera_id, address.partitions):
        if opens_door(decision, now_ms=time.time() * 1000):
            print("open", flush=True)  # instead of your lock
        else:
            print("closed:", decision.reason or decision.outcome, flush=True)


asyncio.run(watch("gate-1"))
