"""`make fuzz`: mutated frames by the million, guided by which code they reach.

    python -m tests.fuzz.run [--frames 1000000] [--seed 0] [--blind] [--keep]

What reaches new code joins the corpus in `build/fuzz/corpus`; `--keep` copies the smallest frames
that together take the same ways through the code to `tests/fuzz/corpus`. A frame that breaks a rule
of `tests/fuzz/target.py` ends the run with its traceback, and lies in `build/fuzz` then. `--blind`
does without atheris, which is not made for all platforms, and watches memory, too.
"""

import argparse
import hashlib
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

FOUND = Path("build/fuzz")
CORPUS = Path(__file__).parent / "corpus"
_LARGE_ONE_IN = 2000
_FRAMES_A_LOOK = 1000
_MAX_KEPT_BYTES = 4096

TraceFunction = Callable[[FrameType, str, Any], Any]


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
            if target.num_frames % _FRAMES_A_LOOK == 0:
                target.check_memory()
        except BaseException:
            FOUND.mkdir(parents=True, exist_ok=True)
            (FOUND / f"blind-{target.num_frames}").write_bytes(frame)
            raise
    return target.report()


def fuzz_guided(num_frames: int, seed: int, folder: Path) -> None:
    """Mutate as atheris, libFuzzer for Python, says; ends the process."""
    import atheris  # noqa: PLC0415 - installed by `make fuzz`

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


def keep_corpus(folder: Path) -> int:
    """Copy what of the found frames goes a way that no smaller one goes; return how many do."""
    from tests.fuzz.target import Target  # noqa: PLC0415

    target = Target(folder)
    known: set[tuple[str, int, int]] = set()
    found = [*CORPUS.iterdir(), *(FOUND / "corpus").iterdir()]
    frames = sorted({file.read_bytes() for file in found}, key=lambda frame: (len(frame), frame))
    for file in CORPUS.iterdir():
        file.unlink()
    for frame in frames:
        steps = _steps(lambda frame=frame: target.run(frame))  # type: ignore[misc]
        if len(frame) <= _MAX_KEPT_BYTES and not steps <= known:
            known |= steps
            (CORPUS / hashlib.sha256(frame).hexdigest()[:16]).write_bytes(frame)
    return len([*CORPUS.iterdir()])


def _steps(call: Callable[[], None]) -> set[tuple[str, int, int]]:
    """Return file, line and the line before it of each step through our own code."""
    steps: set[tuple[str, int, int]] = set()

    def enter(frame: FrameType, *_: object) -> TraceFunction | None:
        name, before = frame.f_code.co_filename, 0
        if not ("/model/data/" in name or "/workers/" in name):
            return None

        def step(frame: FrameType, *_: object) -> TraceFunction:
            nonlocal before
            steps.add((name, before, frame.f_lineno))
            before = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(None)
    return steps


def main() -> None:
    """Fuzz as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.keep:
            print(keep_corpus(Path(folder)), "frames kept")  # noqa: T201
        elif arguments.blind:
            print(fuzz_blindly(arguments.frames, arguments.seed, Path(folder)))  # noqa: T201
        else:
            fuzz_guided(arguments.frames, arguments.seed, Path(folder))


if __name__ == "__main__":
    main()
