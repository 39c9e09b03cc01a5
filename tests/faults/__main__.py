"""The fault schedule: `python -m tests.faults server --faults 300 --seed 1`."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.faults import CLOCK, SERVER
from tests.faults.on_ray import RAY, running_on_ray
from tests.faults.run import Run, play, report, running, settle
from tests.faults.servers import clustered, faked, single
from tests.faults.shards import CLUSTER

STARTS = {"server": single, "cluster": clustered, "clock": faked}
FAULTS = {"server": SERVER, "cluster": CLUSTER, "clock": CLOCK, "ray": RAY}


@contextmanager
def started(kind: str, folder: Path, seed: int, fps: float) -> Iterator[Run]:
    if kind == "ray":
        with running_on_ray(folder, seed=seed, fps=fps) as run:
            yield run
        return
    logs = folder / "logs"
    logs.mkdir()
    with STARTS[kind](folder) as servers, running(servers, logs, seed=seed, fps=fps) as run:
        yield run


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults")
    parser.add_argument("kind", choices=FAULTS)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fps", type=float, default=8.0, help="of each camera")
    parser.add_argument("--only", help="names of faults, with commas")
    args = parser.parse_args()
    faults = FAULTS[args.kind]
    if args.only:
        faults = {name: faults[name] for name in args.only.split(",")}
    began_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        started(args.kind, Path(folder), args.seed, args.fps) as run,
    ):
        played: Counter[str] = Counter()
        failed = []
        try:
            play(run, faults, args.faults, played, lambda line: print(line, flush=True))
        except Exception as error:  # noqa: BLE001 - what was sent until then is accounted for
            failed.append(f"the schedule ended early: {error!r}")
        account = settle(run)
        account["wrong"] = failed + account["wrong"]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(
        report(
            {
                "kind": args.kind,
                "date": datetime.now(UTC).date().isoformat(),
                "commit": commit.stdout.strip(),
                "seed": args.seed,
                "faults": sum(played.values()),
                "played": dict(sorted(played.items())),
                "took_s": round(time.monotonic() - began_s),
                **account,
            }
        )
    )
    return 1 if account["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
