"""The shards of the stream: which partitions are on which server now.

Each server has one group, and a group stands still alone when its server does. So a partition whose
slot moves goes over to its new server's group.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from workers.stream.connection import Servers
from workers.stream.delivery import Entry
from workers.stream.server import Server
from workers.stream.shard_group import ShardGroup
from workers.wire import keys


class Shards:
    """The shard groups, each known by the partitions that it began with."""

    def __init__(self, servers: Servers, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Have no groups yet."""
        self.names: list[tuple[int, ...]] = []
        self._servers = servers
        self._monotonic = monotonic
        self._groups: dict[tuple[int, ...], ShardGroup] = {}
        self._name_of: dict[int, tuple[int, ...]] = {}
        self._version = servers.version

    def lay_out(self, groups: Sequence[Sequence[int]]) -> None:
        """Begin with these groups."""
        for partitions in groups:
            name = tuple(partitions)
            self._groups[name] = ShardGroup(name, self._monotonic)
            self._name_of.update(dict.fromkeys(name, name))
        self.names = list(self._groups)

    @property
    def groups(self) -> list[ShardGroup]:
        """All groups."""
        return list(self._groups.values())

    def named(self, name: Sequence[int]) -> ShardGroup:
        """Return the group that began with these partitions."""
        return self._groups[tuple(name)]

    def name_of(self, partition: int) -> tuple[int, ...]:
        """Return the name of the group that a partition is in now."""
        return self._name_of[partition]

    def of(self, partition: int) -> ShardGroup:
        """Return the group that a partition is in now."""
        return self._groups[self._name_of[partition]]

    def hand_out(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries that are not in hand already, and note that they are now."""
        return [each for each in entries if self.of(each.partition).hand_out(each)]

    def follow(self) -> None:
        """Take in where the slots are, if that has changed."""
        if self._version == self._servers.version:
            return
        self._version = self._servers.version
        owners = {each: self._servers.owner_of(keys.frames(each)) for each in self._name_of}
        home = self._homes(owners)
        for partition, owner in owners.items():
            name = home.get(owner, self._name_of[partition])
            if name != self._name_of[partition]:
                self._groups[name].adopt(partition, self.of(partition))
                self._name_of[partition] = name

    def _homes(self, owners: dict[int, Server | None]) -> dict[Server | None, tuple[int, ...]]:
        """Return each server's group: the one that has most of its partitions, or an empty one."""
        pairs = Counter((owners[each], name) for each, name in self._name_of.items())
        home: dict[Server | None, tuple[int, ...]] = {}
        for (owner, name), _ in pairs.most_common():
            if owner is not None and owner not in home and name not in home.values():
                home[owner] = name
        empty = [name for name, group in self._groups.items() if not group.partitions]
        homeless = [each for each in dict.fromkeys(owners.values()) if each and each not in home]
        return {**home, **dict(zip(homeless, empty, strict=False))}
