"""The stream's ids: noticed where they lie far ahead of now, and set right where nothing waits."""

import logging
from collections.abc import Iterable

from workers.stream.connection import Servers
from workers.stream.scripts import script
from workers.wire import keys

_FAR_MS = 60_000

_log = logging.getLogger(__name__)


async def repair_ids(servers: Servers, partitions: Iterable[int]) -> list[int]:
    """Set ids right that lie far ahead, and return the partitions where that has to wait.

    A stream with frames in it is left alone: their places are what replicas know them by. It is
    repaired once it is empty.

    Raises:
        redis.exceptions.RedisError: a server can't be reached, or refuses.
    """
    wrong = []
    for group in await servers.groups(map(keys.frames, partitions)):
        server = await servers.of(group[0])
        rows = await server.run(script("repair_ids"), [], [keys.GROUP, _FAR_MS, *group])
        for index, ahead_ms, is_repaired in rows:
            name = group[index - 1]
            told = "it is set right" if is_repaired else "it is set right once it is empty"
            _log.error(
                "%s: its newest id lies %s ms ahead: whoever added it may add entries, and chose "
                "it. %s",
                name,
                ahead_ms.decode(),
                told,
            )
            if not is_repaired:
                wrong.append(keys.number_of(name))
    return wrong
