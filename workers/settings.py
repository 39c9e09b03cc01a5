"""Settings of a deployment: typed, made once at the edge, checked there.

They are the `args` of the application in `ray_config.yaml`. A value that can't be used is refused
before anything starts, with the field, the rule and the value in the message.
"""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workers.wire.frame import MAX_FRAME_BYTES

# Fields whose value is never told: a URL may hold a password.
_SECRET = {"url", "ssl_keyfile_password"}


class Settings(BaseModel):
    """What all settings share: unknown fields are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamSettings(Settings):
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

    @field_validator("url")
    @classmethod
    def _is_a_redis_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        if parts.scheme == "unix":
            if not parts.path:
                raise ValueError("names no socket: unix:///path/to/socket")
            return url
        if not parts.hostname:
            raise ValueError("names no host: redis://host:6379/0")
        if parts.port == 0:  # raises by itself if it is no number, or above 65535
            raise ValueError("the port must be from 1 to 65535")
        if not parts.path.removeprefix("/").isdecimal() and parts.path not in ("", "/"):
            raise ValueError("the part after the host must be a database number, such as /0")
        return url


class ScalingSettings(Settings):
    """How many replicas there are to be: what the operator wants of the scaling.

    Attributes:
        min_replicas: never fewer; 0 lets an idle application go to sleep.
        max_replicas: never more.
        drain_s: a backlog is to be worked off in this time.
        target_utilisation: the fraction of its service rate that a replica is meant to carry.
        upscale_s: a need for more replicas must have lasted this long.
        downscale_s: a need for fewer must have lasted this long; minutes, on a cluster.
        first_service_fps: frames a second that a replica is taken to do until one has reported
            its own rate.
        poll_s: how often the server is asked for its backlog.
    """

    min_replicas: Annotated[int, Field(ge=0, le=10_000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=10_000)] = 3
    drain_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    target_utilisation: Annotated[float, Field(gt=0, le=1)] = 0.6
    upscale_s: Annotated[float, Field(ge=0, le=3600)] = 0.5
    downscale_s: Annotated[float, Field(ge=0, le=86_400)] = 4.0
    first_service_fps: Annotated[float, Field(gt=0, le=1_000_000)] = 100.0
    poll_s: Annotated[float, Field(ge=0, le=60)] = 0.5

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas ({self.min_replicas}) must be at most max_replicas "
                f"({self.max_replicas})"
            )
        return self


class WorkerSettings(Settings):
    """What the application does with the frames, and with how many replicas.

    Attributes:
        stream: where the frames come from.
        scaling: how many replicas there are to be.
        bundle: folder of the model bundle, or the name of one that is shipped.
        camera_keys: file of the cameras' keys; None only together with `allow_unsigned`.
        allow_unsigned: take frames without checking any signature. For the bench, never a door.
        deadline_ms: a frame older than this is not inferred and opens nothing.
        max_clock_skew_ms: how far a camera's clock may be ahead of the server's.
        max_batch: largest micro-batch; a replica holds at most two of them.
        max_frame_bytes: a larger frame is refused.
        decode_threads: threads that verify and decode.
        infer_threads: threads of one inference.
        stall_s: a replica whose loop makes no headway for this long is unhealthy.
        drain_s: how long a replica that is told to stop may take to finish what it holds.
    """

    stream: StreamSettings = StreamSettings()
    scaling: ScalingSettings = ScalingSettings()
    bundle: str = "rendered-small"
    camera_keys: Path | None = None
    allow_unsigned: bool = False
    deadline_ms: Annotated[int, Field(ge=50, le=600_000)] = 3000
    max_clock_skew_ms: Annotated[int, Field(ge=0, le=600_000)] = 1000
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 16
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


def problems_of(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the place and the description of each problem, without values that may be secret."""
    found = []
    for each in error.errors():
        rule = each["msg"].removeprefix("Value error, ")
        rule = "is no setting" if each["type"] == "extra_forbidden" else rule[:1].lower() + rule[1:]
        value = each.get("input")
        is_shown = isinstance(value, str | int | float) and not _SECRET & set(each["loc"])
        found.append((each["loc"], f"{rule}, is {value!r:.80}" if is_shown else rule))
    return found
