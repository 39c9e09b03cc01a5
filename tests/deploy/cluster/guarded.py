"""Real servers that let nobody in but the accounts of an ACL file."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.cluster.acl import Account
from workers.stream.connection import connect
from workers.wire import keys

PARTITIONS = 4
OWN = keys.partition_of("gate-1", PARTITIONS)
OTHER = next(each for each in range(PARTITIONS) if each != OWN)
FRAMES, DECISIONS, MINE = keys.frames(OWN), keys.decisions(OWN), f"livegate:{{{OWN}}}:decisions:"


ACCOUNTS = [
    *(Account(role) for role in ("worker", "gateway", "operator", "console", "admin")),
    Account("camera", "gate-1"),
    Account("door", "gate-1"),
]


@dataclass
class Guarded:
    """A server with the ACL, and the passwords to it."""

    port: int
    folder: Path

    def url(self, role: str) -> str:
        (account,) = (each for each in ACCOUNTS if each.role == role)
        file = self.folder / f"{account.name}.password"
        return f"redis://{account.name}@127.0.0.1:{self.port}/0?password_file={file}"

    def run(self, role: str, *command: Any) -> Any:
        async def execute() -> Any:
            servers = connect(self.url(role))
            try:
                return await servers.execute("key", *command)
            finally:
                await servers.aclose()

        return asyncio.run(execute())

    def denied(self) -> list[str]:
        """Return what was refused since the last time."""
        found = [row["object"] for row in self.run("admin", "ACL LOG")]
        self.run("admin", "ACL LOG", "RESET")
        return sorted({each.decode() if isinstance(each, bytes) else each for each in found})
