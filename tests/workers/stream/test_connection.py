"""Connections of each kind to real servers: TLS, a private CA, mTLS, Sentinel, a Unix socket."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as LineError

from tests.workers.stream.cluster import free_port, until
from tests.workers.stream.redis_server import Certificates, Server, started
from workers.stream.connection import Servers, connect
from workers.stream.failure import FAILURES


async def answer(url: str, *command: Any) -> Any:
    servers = connect(url)
    try:
        return await servers.execute("key", *(command or ("SET", "key", "1")))
    finally:
        await servers.aclose()


async def failures(servers: Servers, num_tries: int = 2) -> int:
    """Return how many of some commands fail; the first one may only find the line broken."""
    number = 0
    for _ in range(num_tries):
        try:
            await servers.execute("key", "SET", "key", "1")
        except FAILURES:
            number += 1
    return number


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def tls_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    certificate, key = certificates.issue("server")
    mine = certificates.issue("test")
    server = Server(
        tmp_path_factory.mktemp("tls"),
        {
            "tls-cert-file": str(certificate),
            "tls-key-file": str(key),
            "tls-ca-cert-file": str(certificates.ca),
            "tls-auth-clients": "yes",
        },
        connect={
            "ssl": True,
            "ssl_ca_certs": str(certificates.ca),
            "ssl_certfile": str(mine[0]),
            "ssl_keyfile": str(mine[1]),
        },
    )
    with started(server):
        yield server


class TestTls:
    async def test_a_private_ca_and_a_client_certificate(
        self, certificates: Certificates, tls_server: Server
    ) -> None:
        certificate, key = certificates.issue("camera")
        url = f"rediss://127.0.0.1:{tls_server.port}/0?ssl_ca_certs={certificates.ca}"
        assert await answer(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}")
        with pytest.raises(FAILURES):
            await answer(url)

    async def test_a_server_of_another_ca_is_refused(
        self, certificates: Certificates, tls_server: Server, tmp_path: Path
    ) -> None:
        other = Certificates(tmp_path)
        for url in (f"?ssl_ca_certs={other.ca}", ""):
            with pytest.raises(LineError, match="certificate verify failed"):
                await answer(f"rediss://127.0.0.1:{tls_server.port}/0{url}")

    async def test_a_server_of_another_name_is_refused(
        self, certificates: Certificates, tls_server: Server
    ) -> None:
        with pytest.raises(LineError, match="not valid for 'localhost'"):
            await answer(f"rediss://localhost:{tls_server.port}/0?ssl_ca_certs={certificates.ca}")


async def test_a_socket_and_a_password_that_changes(tmp_path: Path) -> None:
    socket, password = tmp_path / "redis.sock", tmp_path / "password"
    with started(Server(tmp_path / "data", {"unixsocket": str(socket)})):
        url = f"unix://door@{socket}?password_file={password}"
        first = f"unix://{socket}"
        password.write_text("before\n")
        rules = ("ON", "+@all", "~*")
        await answer(first, "ACL", "SETUSER", "door", *rules, ">before")
        servers = connect(url)
        assert await servers.execute("key", "SET", "key", "1")
        await answer(first, "ACL", "SETUSER", "door", "RESETPASS", ">after")
        await answer(first, "CLIENT", "KILL", "USER", "door")
        assert await failures(servers) == 2
        password.write_text("after\n")
        assert await servers.execute("key", "SET", "key", "1")
        password.unlink()
        await answer(first, "CLIENT", "KILL", "USER", "door")
        assert await failures(servers) == 2
        await servers.aclose()


class TestSentinel:
    @pytest.fixture
    def servers(self, tmp_path: Path) -> Iterator[list[Server]]:
        """A primary, its replica, and two Sentinels, one of which is down."""
        primary = Server(tmp_path / "primary", {})
        replica = Server(tmp_path / "replica", {"replicaof": f"127.0.0.1 {primary.port}"})
        sentinel = Server(
            tmp_path / "sentinel",
            {
                "sentinel monitor gates": f"127.0.0.1 {primary.port} 1",
                "sentinel down-after-milliseconds gates": "300",
                "sentinel failover-timeout gates": "3000",
            },
            ("--sentinel",),
        )
        with started(primary, replica, sentinel):
            until(lambda: replica.client.info("replication")["master_link_status"] == "up")
            until(lambda: sentinel.client.sentinel_slaves("gates"))
            yield [primary, replica, sentinel]

    async def test_the_primary_is_followed_through_a_failover(self, servers: list[Server]) -> None:
        primary, replica, sentinel = servers
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/gates"
        made = connect(url)
        assert await made.execute("key", "SET", "key", "1")
        primary.kill()
        num_tries = 0
        while True:
            num_tries += 1
            try:
                assert await made.execute("key", "SET", "key", "2")
                break
            except FAILURES:
                await asyncio.sleep(0.05)
        await made.aclose()
        assert replica.client.get("key") == b"2"
        assert num_tries > 1

    async def test_an_unknown_service_is_named(self, servers: list[Server]) -> None:
        with pytest.raises(LineError, match="no service doors"):
            await answer(f"redis+sentinel://127.0.0.1:{servers[2].port}/doors")
