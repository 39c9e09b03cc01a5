"""The managed server as it is rendered, on this machine: TLS alone, and the generated ACL."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from deploy.cluster.acl import Account, write_acl
from deploy.cluster.kubernetes import server_conf
from deploy.cluster.values import VALUES, load_values
from deploy.local.ports import free_port
from tests.processes import started
from tests.workers.stream.cluster import until
from tests.workers.stream.redis_server import Certificates


@contextmanager
def managed_server(folder: Path, partitions: int) -> Iterator[dict[str, str]]:
    """Run it while the block runs; yield its URL for a worker, and for who may do anything."""
    binary = shutil.which("redis-server")
    if binary is None:
        tell = pytest.fail if os.environ.get("CI") else pytest.skip
        tell("no redis-server here: apt-get install redis-server")
    certificates = Certificates(folder)
    certificate, key = certificates.issue("server")
    write_acl(folder / "acl", [Account("worker"), Account("admin")], partitions)
    port = free_port()
    conf = server_conf(load_values([VALUES]))
    for path, here in {
        "/etc/redis/acl/users.acl": folder / "acl" / "users.acl",
        "/etc/redis/tls/tls.crt": certificate,
        "/etc/redis/tls/tls.key": key,
        "/etc/redis/tls/ca.crt": certificates.ca,
        "/data": folder,
        "tls-port 6379": f"tls-port {port}",
    }.items():
        conf = conf.replace(path, str(here))
    (folder / "redis.conf").write_text(conf + "bind 127.0.0.1\n")
    with (
        (folder / "redis.log").open("w") as log,
        started([binary, str(folder / "redis.conf")], stdout=log) as process,
    ):
        with redis.Redis("127.0.0.1", port, ssl=True, ssl_ca_certs=str(certificates.ca)) as anyone:
            until(lambda: _refuses(anyone))
        yield {
            role: f"rediss://livegate-{role}@127.0.0.1:{port}/0?ssl_ca_certs={certificates.ca}"
            f"&password_file={folder / 'acl' / f'livegate-{role}.password'}"
            for role in ("worker", "admin")
        }
        process.terminate()
        process.wait()


def _refuses(client: "redis.Redis[bytes]") -> bool:
    """Say whether the server is there and lets nobody in without an account."""
    try:
        client.ping()
    except redis.AuthenticationError:
        return True
    return False
