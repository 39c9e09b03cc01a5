"""A door, with Livegate's client: opens on a fresh `bona_fide` verdict, and on nothing else.

    .venv/bin/python examples/door.py

in the folder where `livegate up` runs; Ctrl-C ends it.
"""

# README.md prints what follows.
import asyncio
import time

from deploy.local.home import Home
from workers.client.door import Door
from workers.stream.connection import connect
from workers.wire.signing import door_key


async def watch(camera_id: str) -> None:
    home = Home()  # the folder .livegate of `livegate up`
    address, key = home.address(), door_key(home.key_of(camera_id))
    servers = connect(address.redis_url, cluster=address.cluster, timeout_s=5)
    door = Door(servers, camera_id, key, partitions=address.partitions)
    async for verdict in door.verdicts():
        if door.opens(verdict, now_ms=time.time() * 1000):
            print("open", flush=True)  # instead of your lock
        else:
            print("closed:", verdict.reason or verdict.outcome, flush=True)


asyncio.run(watch("gate-1"))
