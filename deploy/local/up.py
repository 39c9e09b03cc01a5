"""`livegate up`: a deployment on this machine, until it is told to stop."""

import signal
import threading
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from deploy.local.home import Address, Home
from deploy.local.server import embedded_server
from deploy.local.stack import CONFIG, free_port, load_config, replica_states, serve_application

_LOOK_S = 2.0


def run_deployment(home: Home, path: Path | None, redis_url: str | None, console: Console) -> None:
    """Run a deployment until SIGINT or SIGTERM; then drain it.

    Args:
        home: its folder.
        path: its Serve config; None: the shipped one.
        redis_url: its server; None: an embedded one.
        console: where to tell what happens.
    """
    home.prepare()
    stop = threading.Event()
    with ExitStack() as cleanup:
        if redis_url is None:
            console.print(f"starting the embedded server, data in {home.server_folder} ...")
            redis_url = cleanup.enter_context(embedded_server(home.server_folder, free_port(6379)))
        config = load_config(
            path or CONFIG,
            url=redis_url,
            camera_keys=home.key_file.resolve(),
            http_port=free_port(8000),
        )
        settings = config.settings.stream
        console.print("starting Ray and the replicas ...")
        cleanup.enter_context(serve_application(config))
        address = Address(redis_url, settings.partitions, settings.cluster, config.http_url)
        cleanup.enter_context(home.announce(address))
        console.print(f"frames and decisions: {redis_url}")
        console.print(f"status:               {config.http_url}/v1/status")
        console.print(f"camera keys:          {home.key_file}")
        console.print("connect a camera:     livegate camera --id gate-1")
        console.print("watch:                livegate decisions --follow")
        console.print("Ctrl-C drains and stops it.")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        last: dict[str, int] = {}
        while not stop.wait(_LOOK_S):
            now = replica_states()
            if now != last:
                console.print(f"replicas: {now}", highlight=False)
                last = now
        console.print("draining ...")
