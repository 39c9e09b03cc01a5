"""The cluster's ACL: who may do what on the server, and nothing beyond; for Redis 7 and Valkey.

| role     | may                                                                            |
| -------- | ------------------------------------------------------------------------------ |
| worker   | all that a replica does; the ingress is a part of it                             |
| gateway  | add frames of any camera: a hub that is trusted as the replicas are              |
| camera   | add frames to its own partition. It can trim that stream, and choose ids: so    |
|          | give it to none that can be stolen, and let those post to the ingress           |
| door     | read the decisions of its own camera                                           |
| operator | figures, decisions and dead letters, the server's own state; never a frame      |
| console  | figures and decisions; never a frame                                           |
| admin    | everything: backups, `ACL LOAD`                                                |

XINFO STREAM shows two whole frames, and CONFIG GET shows passwords: nobody but the worker has the
one, and nobody the other. Selectors (in brackets) do not add up: each command has to be allowed by
one of them alone. Keys are in database 0: nobody has SELECT.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workers.wire import keys
from workers.wire.keyring import write_secret

Role = Literal["worker", "gateway", "camera", "door", "operator", "console", "admin"]

_FRAMES = "livegate:{*}:frames"
_DECISIONS = "livegate:{*}:decisions"
_DEAD = "livegate:{*}:dead"
# What a deployment tells whoever sends it frames.
_TOLD = f"%R~{keys.layout(0)} %R~{keys.codecs(0)}"
# All that the scripts in workers/stream/scripts call, and what is run beside them.
_WORKER = (
    "+evalsha +eval +ping +time +info "
    "+xgroup|create +xgroup|delconsumer +xinfo|stream +xinfo|groups +xinfo|consumers "
    "+xreadgroup +xclaim +xpending +xack +xdel +xadd +xlen +xrange +xrevrange +xread +xsetid "
    "+zadd +zcount +zscore +zrem +zremrangebyscore +zrevrange +pexpireat "
    "+del +exists +set +get +hset +hincrby +hgetall +hdel +hkeys +pexpire"
)
_FIGURES = "+evalsha +eval +ping +time +get +xlen +xpending +xinfo|groups"
_SERVER = "+info +slowlog|get +slowlog|len +latency|latest +xinfo|consumers +hgetall"


@dataclass(frozen=True, slots=True)
class Account:
    """One user of the server.

    Attributes:
        role: what it is for.
        camera_id: of a camera or a door.
    """

    role: Role
    camera_id: str = ""

    @property
    def name(self) -> str:
        """Its name on the server."""
        return f"livegate-{self.role}" + (f"-{self.camera_id}" if self.camera_id else "")

    def rules(self, partitions: int, *, cluster: bool = False) -> str:
        """Return what it may do, as an ACL file or `ACL SETUSER` takes it.

        Args:
            partitions: the deployment's number of partitions.
            cluster: the server is one of a Redis Cluster, whose map its users have to ask for.
        """
        if self.role == "admin":
            return "~* &* +@all"
        partition = keys.partition_of(self.camera_id, partitions) if self.camera_id else 0
        seen = f"%R~{_DECISIONS} %R~{_DECISIONS}:*"
        rules = {
            "worker": f"~livegate:* {_WORKER}",
            "gateway": f"%W~{_FRAMES} {_TOLD} +xadd +get +ping",
            "camera": f"%W~{keys.frames(partition)} {_TOLD} +xadd +get +ping",
            "door": f"%R~{keys.camera_decisions(partition, self.camera_id)} %R~{keys.layout(0)} "
            "+xread +xrevrange +get +ping",
            "operator": f"%R~{_FRAMES} {seen} %R~{_DEAD} %R~{keys.layout(0)} %R~{keys.members(0)} "
            f"{_FIGURES} {_SERVER} ({seen} %R~{_DEAD} +xread +xrange +xrevrange)",
            "console": f"%R~{_FRAMES} %R~{keys.layout(0)} {_FIGURES} ({seen} +xread +xrevrange)",
        }[self.role]
        head = "resetchannels -@all " + ("+cluster|slots +asking " if cluster else "")
        return head + rules


def write_acl(
    folder: Path, accounts: Iterable[Account], partitions: int, *, cluster: bool = False
) -> Path:
    """Write an ACL file, and beside it one file with the password of each account.

    The ACL file holds hashes alone: it is for the server's `aclfile`. A password that is there
    already is kept; to change one, delete its file. All files are for their owner alone.

    Args:
        folder: where to; it is made if it is missing.
        accounts: whom to let in; the default user is off.
        partitions: the deployment's number of partitions.
        cluster: as in `Account.rules`.

    Returns:
        The ACL file.

    Raises:
        workers.wire.keyring.KeyFileError: a file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = ["user default off"]
    for account in accounts:
        password = _password(folder / f"{account.name}.password")
        digest = hashlib.sha256(password.encode()).hexdigest()
        lines.append(
            f"user {account.name} on #{digest} {account.rules(partitions, cluster=cluster)}"
        )
    path = folder / "users.acl"
    write_secret(path, "\n".join(lines) + "\n")
    return path


def _password(path: Path) -> str:
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="utf-8").strip()
