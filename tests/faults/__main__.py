"""The fault schedule: `python -m tests.faults server --faults 300 --seed 1`."""

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.faults import CLOCK, CLUSTER, SERVER
from tests.faults.run import play, report, running, settle
from tests.faults.servers import clustered, faked, single

KINDS = {"server": (single, SERVER), "cluster": (clustered, CLUSTER), "clock": (faked, CLOCK)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fps", type=float, default=5.0, help="of each of 8 cameras")
    parser.add_argument("--only", help="names of faults, with commas")
    args = parser.parse_args()
    start, faults = KINDS[args.kind]
    if args.only:
        faults = {name: faults[name] for name in args.only.split(",")}
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as servers:
        logs = Path(folder) / "logs"
        logs.mkdir()
        with running(servers, logs, seed=args.seed, fps=args.fps) as run:
            played = play(run, faults, args.faults, lambda line: print(line, flush=True))
            account = settle(run)
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
