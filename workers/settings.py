"""Settings of a deployment: typed, made once at the edge, checked there.

They are the `args` of the application in `ray_config.yaml`. A value that can't be used is refused
before anything starts, with the field, the rule and the value in the message.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workers.wire.frame import MAX_FRAME_BYTES


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamSettings(_Settings):
    """Where the streams are and how they are laid out.

    Attributes:
        url: `redis://`, `rediss://` or `unix://` URL of the server.
        cluster: the server is one of a Redis Cluster.
        partitions: number of partitions. Cameras compute theirs from it: change it only while
            no frame is waiting.
        lease_ms: a frame whose replica has been silent this long is handed to another one.
        max_deliveries: a frame handed out this often without a decision is given up on.
        block_ms: longest wait of one read; also how long a drain may wait for it.
        max_decisions: decisions kept a partition.
        max_camera_decisions: decisions kept a camera.
        max_dead_letters: dead letters kept a partition.
        max_seqs: seqs remembered a camera against replays; at the bound its frames are refused.
    """

    url: str = "redis://127.0.0.1:6379/0"
    cluster: bool = False
    partitions: Annotated[int, Field(ge=1, le=256)] = 4
    lease_ms: Annotated[int, Field(ge=200, le=600_000)] = 1500
    max_deliveries: Annotated[int, Field(ge=1, le=100)] = 4
    block_ms: Annotated[int, Field(ge=10, le=10_000)] = 250
    max_decisions: Annotated[int, Field(ge=1)] = 50_000
    max_camera_decisions: Annotated[int, Field(ge=1)] = 256
    max_dead_letters: Annotated[int, Field(ge=1)] = 1_000
    max_seqs: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384


class WorkerSettings(_Settings):
    """What one replica does with the frames.

    Attributes:
        stream: where the frames come from.
        bundle: folder of the model bundle, or the name of one that is shipped.
        camera_keys: file of the cameras' keys; None only together with `allow_unsigned`.
        allow_unsigned: take frames without checking any signature. For the bench, never a door.
        deadline_ms: a frame older than this is not inferred and opens nothing.
        max_clock_skew_ms: how far a camera's clock may be ahead of the server's.
        max_batch: largest micro-batch; a replica holds at most two of them.
        max_camera_fps: frames of one camera that a replica judges, of those that arrived within a
            second; those above are refused before they are decoded.
        max_frame_bytes: a larger frame is refused.
        decode_threads: threads that verify and decode.
        infer_threads: threads of one inference.
        stall_s: a replica whose loop makes no headway for this long is unhealthy.
        drain_s: how long a replica that is told to stop may take to finish what it holds.
    """

    stream: StreamSettings = StreamSettings()
    bundle: str = "rendered-small"
    camera_keys: Path | None = None
    allow_unsigned: bool = False
    deadline_ms: Annotated[int, Field(ge=50, le=600_000)] = 3000
    max_clock_skew_ms: Annotated[int, Field(ge=0, le=600_000)] = 1000
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 16
    max_camera_fps: Annotated[int, Field(ge=1, le=100_000)] = 30
    max_frame_bytes: Annotated[int, Field(ge=1024, le=1 << 28)] = MAX_FRAME_BYTES
    decode_threads: Annotated[int, Field(ge=1, le=64)] = 2
    infer_threads: Annotated[int, Field(ge=1, le=256)] = 1
    stall_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    drain_s: Annotated[float, Field(gt=0, le=600)] = 10.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.camera_keys is None and not self.allow_unsigned:
            raise ValueError(
                "camera_keys: name the file of the cameras' keys, or set allow_unsigned to take "
                "frames from anyone"
            )
        if self.camera_keys is not None and self.allow_unsigned:
            raise ValueError("camera_keys and allow_unsigned exclude each other: drop one")
        return self
