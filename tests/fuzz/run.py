"""`make fuzz`: mutated frames by the million, guided by which code they reach.

    python -m tests.fuzz.run [--frames 1000000] [--seed 0] [--blind]

What reaches new code joins the corpus in `build/fuzz/corpus`; what is worth keeping goes into
`tests/fuzz/corpus`. A frame that breaks a rule of `tests/fuzz/target.py` ends the run with its
traceback, and lies in `build/fuzz` then. `--blind` does without atheris, which is not made for all
platforms.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

FOUND = Path("build/fuzz")
CORPUS = Path(__file__).parent / "corpus"
_LARGE_ONE_IN = 2000


def fuzz_blindly(num_frames: int, seed: int, folder: Path) -> str:
    """Mutate seeds and corpus with no guidance, and return the report of what was seen.

    Raises:
        tests.fuzz.target.Finding: a frame broke a rule.
    """
    from tests.fuzz.mutation import mutate  # noqa: PLC0415 - see `fuzz_guided`
    from tests.fuzz.seeds import good, hostile  # noqa: PLC0415
    from tests.fuzz.target import Target  # noqa: PLC0415

    target, rng = Target(folder), random.Random(seed)
    frames = [*good()], [*hostile(), *(file.read_bytes() for file in sorted(CORPUS.iterdir()))]
    for frame in (*frames[0], *frames[1]):
        target.run(frame)
    while target.num_frames < num_frames:
        base = (
            target.largest if rng.randrange(_LARGE_ONE_IN) == 0 else rng.choice(rng.choice(frames))
        )
        frame = mutate(base, rng)
        try:
            target.run(frame)
        except BaseException:
            FOUND.mkdir(parents=True, exist_ok=True)
            (FOUND / f"blind-{target.num_frames}").write_bytes(frame)
            raise
    return target.report()


def fuzz_guided(num_frames: int, seed: int, folder: Path) -> None:
    """Mutate as atheris, libFuzzer for Python, says; ends the process."""
    import atheris  # noqa: PLC0415 - of the extra `fuzz`

    # What is imported here is told apart by which of its lines run: so nothing is imported above.
    with atheris.instrument_imports(include=["model.data", "workers.wire", "workers.replica"]):
        from tests.fuzz.mutation import MAX_BYTES, mutate  # noqa: PLC0415
        from tests.fuzz.seeds import good, hostile  # noqa: PLC0415
        from tests.fuzz.target import Target  # noqa: PLC0415

    target = Target(folder)
    good_frames = [*good()]
    found = FOUND / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate((*good_frames, *hostile())):
        (found / f"seed-{number:03d}").write_bytes(frame)

    def run(data: bytes) -> None:
        target.run(data)
        if target.num_frames % 10_000 == 0 or target.num_frames == num_frames:
            print(target.report(), flush=True)  # noqa: T201

    def mutated(data: bytes, max_size: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.randrange(_LARGE_ONE_IN) == 0:
            data = target.largest
        elif rng.random() < 0.4:
            data = rng.choice(good_frames)  # most of the corpus is refused early
        elif rng.random() < 0.3:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(data, rng)[:max_size]

    atheris.Setup(
        [
            sys.argv[0],
            str(found),
            str(CORPUS),
            f"-runs={num_frames}",
            f"-seed={seed + 1}",
            f"-max_len={MAX_BYTES}",
            f"-artifact_prefix={FOUND}/",
            "-rss_limit_mb=0",
        ],
        run,
        custom_mutator=mutated,
    )
    atheris.Fuzz()


def main() -> None:
    """Fuzz as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.blind:
            print(fuzz_blindly(arguments.frames, arguments.seed, Path(folder)))  # noqa: T201
        else:
            fuzz_guided(arguments.frames, arguments.seed, Path(folder))


if __name__ == "__main__":
    main()
