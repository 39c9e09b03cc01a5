"""The faults that only a cluster has, and the names of all that a run on one may suffer."""

from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.faults.faults import KEYS, REPLICAS, full_server, kill_connections, no_replicas
from tests.faults.run import Fault, Run, undone
from tests.workers.stream.cluster import until


def _shard(run: Run) -> tuple[Any, Any]:
    """Return a primary and a replica of it that is in step."""
    nodes = run.servers.cluster.nodes

    def found() -> tuple[Any, Any] | None:
        primaries = [each for each in nodes if each.is_primary and each.name in _owners(nodes)]
        primary = run.random.choice(primaries)
        for node in nodes:
            role = node.client.execute_command("ROLE")
            if role[0] == b"slave" and int(role[2]) == primary.port and role[3] == b"connected":
                return primary, node
        return None

    pair: tuple[Any, Any] = until(found, 90)
    return pair


def _owners(nodes: list[Any]) -> set[str]:
    rows: Any = nodes[0].client.execute_command("CLUSTER SLOTS")
    return {primary[2].decode() for _, _, primary, *_ in rows}


def kill_primary(run: Run) -> None:
    primary, replica = _shard(run)
    run.servers.cluster.kill(primary)
    until(lambda: replica.is_primary, 90)
    primary.restart()
    run.servers.learn()


def hand_over_shard(run: Run) -> None:
    _, replica = _shard(run)
    replica.client.execute_command("CLUSTER", "FAILOVER")
    until(lambda: replica.is_primary, 90)
    run.servers.learn()


def hang_primary(run: Run) -> None:
    primary, _ = _shard(run)
    with run.servers.cluster.hung(primary):
        run.hold(1, 6)
    run.servers.learn()


def hang_node(run: Run) -> None:
    _, replica = _shard(run)
    with run.servers.cluster.hung(replica):
        run.hold(1, 3)


def migrate_slot(run: Run) -> None:
    partition = run.camera().partition
    slot = key_slot(f"livegate:{{{partition}}}:frames".encode())
    run.servers.learn()
    nodes = run.servers.cluster.nodes
    source = next(each for each in nodes if each.port == run.servers.port_of(partition))
    targets = [each for each in nodes if each.port in set(run.servers._slots.values())]
    target = run.random.choice([each for each in targets if each is not source])
    try:
        run.servers.cluster.migrate(slot, source, target)
    except RedisError:
        # A failover came between: put the slot to rest where it is, before anything else.
        undone(lambda: _rest(run, slot, source, target))
    run.servers.learn()


def _rest(run: Run, slot: int, source: Any, target: Any) -> None:
    run.servers.cluster.migrate(slot, source, target)


CLUSTER: dict[str, Fault] = {
    **REPLICAS,
    **KEYS,
    **{
        each.__name__: each
        for each in (
            *(kill_primary, hand_over_shard, hang_primary, hang_node, migrate_slot),
            *(kill_connections, no_replicas, full_server),
        )
    },
}
