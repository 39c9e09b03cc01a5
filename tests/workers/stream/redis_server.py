"""Debian's Redis for tests, with what the embedded server has not: TLS and Sentinel."""

import datetime
import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.workers.stream.cluster import free_port, until


@dataclass
class Server:
    """One process, started again at its port if need be."""

    folder: Path
    options: Mapping[str, str]
    args: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    connect: Mapping[str, Any] = field(default_factory=dict)
    binary: str | None = None
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def client(self) -> "redis.Redis[bytes]":
        return redis.Redis("127.0.0.1", self.port, socket_timeout=5, **self.connect)

    def start(self) -> None:
        binary = self.binary or shutil.which("redis-server")
        if binary is None:
            tell = pytest.fail if os.environ.get("CI") else pytest.skip
            tell("no redis-server here: apt-get install redis-server")
        self.folder.mkdir(parents=True, exist_ok=True)
        port = (
            {"tls-port": self.port, "port": 0} if self.connect.get("ssl") else {"port": self.port}
        )
        lines = {"bind": "127.0.0.1", "dir": self.folder, "save": '""', **port, **self.options}
        config = self.folder / "server.conf"
        if not config.exists():  # a Sentinel keeps what it learns there
            config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self.process = subprocess.Popen(
            [binary, str(config), *self.args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.client.ping)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def started(*servers: Server) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


@dataclass
class Certificates:
    """A private CA, and what it signed, as PEM files."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = self.folder / "ca.pem"
        self._write(self.ca, self._signed("a private CA", self._key, is_ca=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return certificate and key, good for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        self._write(files[0], self._signed(name, key, is_ca=False))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _signed(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, is_ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private CA")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
