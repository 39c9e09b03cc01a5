"""The figures of a replica: what it looks up and tells of itself, once a second."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from workers.replica.shadow_tally import ShadowTally
from workers.replica.telemetry import Telemetry
from workers.settings import StreamSettings
from workers.stream.backlog import NOTHING, Backlog, read_backlog, total
from workers.stream.connection import Servers, connect
from workers.stream.failure import FAILURES
from workers.stream.far_ids import repair_ids
from workers.stream.roster import Row, read_roster, sign_in, sign_out

_PERIOD_S = 1.0
_REPAIR_S = 10.0


class Figures:
    """Keeps what is known of the deployment, and has others know of this replica.

    Attributes:
        servers: of the streams, by connections of their own.
        backlog: of all partitions, as it was last read.
        far_ids: partitions whose newest id lies ahead.
    """

    def __init__(
        self,
        settings: StreamSettings,
        replica: str,
        telemetry: Telemetry,
        now_ms: Callable[[], int],
    ) -> None:
        """Connect to nothing yet.

        Args:
            settings: where the streams are.
            replica: its name.
            telemetry: is given gauges.
            now_ms: the server's clock, Unix ms.
        """
        self.servers: Servers = connect(settings.url, cluster=settings.cluster)
        self.backlog: Backlog = NOTHING
        self.far_ids: list[int] = []
        self._partitions = range(settings.partitions)
        self._replica = replica
        self._telemetry = telemetry
        self._now_ms = now_ms

    async def keep(
        self,
        num_in_flight: Callable[[], int],
        row: Callable[[], Mapping[str, Any]],
        tally: ShadowTally,
    ) -> None:
        """Look up and tell, until it is cancelled; a server that is away is asked again.

        Args:
            num_in_flight: tells how many frames the replica works on.
            row: tells what it says of itself in the roster.
            tally: counts to be added to the deployment's.
        """
        repair_at_s = 0.0
        while True:
            with suppress(*FAILURES):
                if time.monotonic() >= repair_at_s:
                    repair_at_s = time.monotonic() + _REPAIR_S
                    self.far_ids = await repair_ids(self.servers, self._partitions)
                self.backlog = total(await read_backlog(self.servers, self._partitions))
            with suppress(*FAILURES):
                await sign_in(self.servers, self._replica, row(), self._now_ms())
                await tally.keep(self.servers)
            self._telemetry.gauge(
                {
                    "in_flight_frames": num_in_flight(),
                    "service_rate_fps": self._telemetry.service_rate.fps,
                }
            )
            await asyncio.sleep(_PERIOD_S)

    async def roster(self) -> list[Row]:
        """Return what all replicas say of themselves; nothing where no server tells."""
        try:
            return await read_roster(self.servers, self._now_ms())
        except FAILURES:
            return []

    async def aclose(self) -> None:
        """Be in the roster no more, as far as that can be said, and close the connections."""
        with suppress(*FAILURES):
            await sign_out(self.servers, self._replica)
            await self.servers.aclose()
