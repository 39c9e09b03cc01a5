"""The embedded server: it keeps its data, says why it fails, and outlives nobody."""

import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from deploy.local.ports import PortTaken, check_port, free_port
from deploy.local.processes import cpu_s_of, descendants, processes
from deploy.local.server import EmbeddedServer, ServerFailed, embedded_server
from tests.processes import started


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_it_is_killed_and_comes_back_with_its_data(tmp_path: Path) -> None:
    told: list[str] = []
    with embedded_server(tmp_path / "new", free_port(), tell=told.append) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", 1)
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            client.execute_command("WAITAOF", 1, 0, 5000)
        server.kill()
        assert not server.is_running
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"1"
    assert not server.is_running
    assert told == [f"starting the embedded server, data in {tmp_path / 'new'} ..."]


def keeps(folder: Path, secret: bytes) -> bool:
    found = False
    for file in folder.rglob("*"):
        try:
            found = found or (file.is_file() and secret in file.read_bytes())
        except FileNotFoundError:
            return True  # replaced meanwhile: look again
    return found


def test_what_was_deleted_is_on_disk_no_more(tmp_path: Path) -> None:
    """After an end in order, and after a crash once it has started again."""
    with embedded_server(tmp_path, free_port()) as server:
        for secret in (secrets.token_bytes(4000), secrets.token_bytes(4000)):
            with redis.Redis.from_url(server.url) as client:
                entry_id = client.xadd("frames", {"f": secret})
                client.xdel("frames", entry_id)
            assert keeps(tmp_path, secret[100:200])
            server.kill()
            server.start()
            wait_for(lambda secret=secret: not keeps(tmp_path, secret[100:200]))
        with redis.Redis.from_url(server.url) as client:
            client.xdel("frames", client.xadd("frames", {"f": secret}))
            client.xadd("frames", {"f": "waits"})
    assert not keeps(tmp_path, secret[100:200])
    assert keeps(tmp_path, b"waits")


def test_a_port_that_is_another_server_s_is_an_error(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "a", free_port()) as server:
        with pytest.raises(ServerFailed, match=rf"port {server.port}.*valkey\.log"):
            EmbeddedServer(tmp_path / "b", server.port).start()
        with pytest.raises(PortTaken, match=rf"^here: port {server.port} .*in use.*: move$"):
            check_port("here", "127.0.0.1", server.port, "move")
    check_port("here", "127.0.0.1", server.port, "move")


def test_data_that_can_not_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        embedded_server(tmp_path, free_port()) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        client.set("a", "b" * 1000)
    (file,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"*3\r\nnonsense\r\n" * 10)
    with pytest.raises(ServerFailed, match="Bad file format") as caught:
        EmbeddedServer(tmp_path, free_port()).start()
    assert "\n" not in str(caught.value)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from deploy.local.server import *; "
        "server = EmbeddedServer(Path(sys.argv[1]), int(sys.argv[2])); server.start(); "
        "print('up', flush=True); time.sleep(600)"
    )
    port = free_port()
    command = [sys.executable, "-c", code, str(tmp_path), str(port)]
    with started(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        # The server has a process of its own while it rewrites its file.
        (child,) = (each for each in descendants(parent.pid) if each.parent == parent.pid)
        assert "valkey-server" in child.title
        assert child.session != parent.pid
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: child.pid not in {each.pid for each in processes()})


def test_a_host_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(PortTaken, match="assign"):
        check_port("here", "192.0.2.1", 80, "choose another")
    with pytest.raises(PortTaken, match=r"no\.such\.host"):
        check_port("here", "no.such.host.invalid", 80, "choose another")


def test_processes_tell_their_cost() -> None:
    with started([sys.executable, "-c", "while True: pass"]) as child:
        wait_for(lambda: cpu_s_of(child.pid) > 0.1)
        (seen,) = [each for each in descendants() if each.pid == child.pid]
        assert seen.rss_mb > 1
        assert "while True: pass" in seen.title
    assert cpu_s_of(child.pid) == 0


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
