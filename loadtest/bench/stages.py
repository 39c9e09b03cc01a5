"""What each stage of a frame's path costs by itself, on one thread, through the real parts."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from model.data.decoder import Picture, decode_planes
from model.data.planes import crop_planes
from model.data.quality import measure
from model.serving.predictor import Predictor
from workers.replica.in_flight import Decided, InFlight, Judge
from workers.settings import WorkerSettings
from workers.stream.delivery import Entry
from workers.stream.redis_stream import RedisStream
from workers.wire.frame import peek_camera_id, take_fields, unpack_frame
from workers.wire.signing import Verifier

STAGES = ("read", "open", "decode", "preprocess", "engine", "pack", "commit")


class _Costs:
    """Processor time of this thread, by stage."""

    def __init__(self) -> None:
        self._s = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        began_s = time.thread_time()
        try:
            yield
        finally:
            self._s[stage] += time.thread_time() - began_s

    def per_frame_us(self, num_frames: int) -> dict[str, float]:
        return {stage: cost_s / num_frames * 1e6 for stage, cost_s in self._s.items()}


async def stage_costs(
    settings: WorkerSettings, verifier: Verifier, predictor: Predictor, size: int, num_frames: int
) -> dict[str, float]:
    """Take the frames that wait through all stages, one stage at a time.

    Args:
        settings: of the replica.
        verifier: has the cameras' keys.
        predictor: the engine.
        size: frames in a batch.
        num_frames: how many wait.

    Returns:
        Processor time a frame, us, by stage. An engine with threads of its own costs more.
    """
    name = f"stages-{time.time_ns()}"
    stream = RedisStream(settings.stream, consumer=name)
    await stream.join()
    costs, num_done = _Costs(), 0
    try:
        while num_done < num_frames:
            entries: list[Entry] = []
            with costs.of("read"):
                for group in stream.groups:
                    entries += await stream.read(group, min(size, num_frames - num_done))
            batch = [_opened(each, costs, verifier, predictor) for each in entries]
            if not batch:
                continue
            decided = _judged(batch, costs, predictor, name, stream.now_ms(0))
            with costs.of("pack"):
                commits = [each.to_commit(settings) for each in decided]
            with costs.of("commit"):
                await stream.commit(commits)
            for each in entries:
                stream.release(each, is_ours=False)
            num_done += len(entries)
    finally:
        await stream.leave()
    return costs.per_frame_us(num_frames)


def _opened(entry: Entry, costs: _Costs, verifier: Verifier, predictor: Predictor) -> InFlight:
    frame = InFlight(entry.fields or {}, entry.arrived_at_ms, lambda _: None, entry)
    with costs.of("open"):
        packed, signature = take_fields(frame.fields)
        frame.camera_id = peek_camera_id(packed)
        frame.proof = verifier.verify(frame.camera_id, packed, signature)
        content = frame.frame = unpack_frame(packed)
    with costs.of("decode"):
        pixels = decode_planes(
            {
                name: Picture(plane.codec, plane.data, plane.shape)
                for name, plane in content.planes.items()
            }
        )
    with costs.of("preprocess"):
        frame.planes = crop_planes(
            pixels.get("rgb"),
            pixels.get("depth"),
            pixels.get("ir"),
            content.face_box,
            predictor.size,
            predictor.crop_margin,
        )
        frame.quality = measure(frame.planes)
    frame.predictor = predictor
    return frame


def _judged(
    batch: Sequence[InFlight], costs: _Costs, predictor: Predictor, replica: str, now_ms: int
) -> list[Decided]:
    with costs.of("engine"):
        prediction = predictor.predict([each.planes for each in batch if each.planes is not None])
    judge = Judge(replica)
    with costs.of("pack"):
        return [
            judge.verdict(
                frame,
                float(prediction.scores[row]),
                prediction.evidence_of(row),
                len(batch),
                now_ms,
            )
            for row, frame in enumerate(batch)
        ]
