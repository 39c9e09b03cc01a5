"""Settings of a deployment: typed, made once at the edge, checked there.

They are the `args` of the application in `ray_config.yaml`. A value that can't be used is refused
before anything starts, with the field, the rule and the value in the message.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model.serving.presentations import DEFAULT_TEST, SequentialTest
from workers.wire.frame import MAX_FRAME_BYTES
from workers.wire.server_url import ServerUrlError, parse_server_url

# Fields whose value is never told: a URL may hold a password.
_SECRET = {"url", "ssl_keyfile_password"}


class Settings(BaseModel):
    """What all settings share: unknown fields are refused, values never change."""

    # Not what was given: a URL may hold a password, and an error would quote it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class PresentationSettings(Settings):
    """How the frames of one presentation are combined to one verdict.

    Attributes:
        max_apcer: part of the attack presentations that may get `bona_fide`.
        max_bpcer: part of the bona fide presentations that may get `attack`.
        frame_correlation: of the decisions on two frames of one presentation: at 1 the first is
            all that counts, at 0 each is news.
        max_frames: frames of a presentation that are combined; without a verdict by then it is
            `undecided`.
        silence_ms: a presentation without a judged frame for this long is over.
        max_refused: once so many presentations at a camera got no `bona_fide`, the others get none
            either: `too_many_attempts`.
        refused_s: from the first of them, until they are forgotten.
    """

    max_apcer: Annotated[float, Field(gt=0, lt=0.5)] = DEFAULT_TEST.max_apcer
    max_bpcer: Annotated[float, Field(gt=0, lt=0.5)] = DEFAULT_TEST.max_bpcer
    frame_correlation: Annotated[float, Field(ge=0, le=1)] = DEFAULT_TEST.frame_correlation
    max_frames: Annotated[int, Field(ge=1, le=10_000)] = DEFAULT_TEST.max_frames
    silence_ms: Annotated[int, Field(ge=100, le=600_000)] = 2000
    max_refused: Annotated[int, Field(ge=1, le=10_000)] = 5
    refused_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0

    @property
    def test(self) -> SequentialTest:
        """The test that the frames' evidence is put to."""
        return SequentialTest(
            self.max_apcer, self.max_bpcer, self.frame_correlation, self.max_frames
        )


class StreamSettings(Settings):
    """Where the streams are and how they are laid out.

    Attributes:
        url: of the server, of some of a cluster, or of the Sentinels that know it:
            `workers/wire/server_url.py`.
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
        presentation: how the commit combines the frames of one presentation.
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
    presentation: PresentationSettings = PresentationSettings()

    @field_validator("url")
    @classmethod
    def _is_a_server_url(cls, url: str) -> str:
        try:
            parse_server_url(url)
        except ServerUrlError as error:
            raise ValueError(str(error)) from error
        return url


class IngressSettings(Settings):
    """What the ingress, `POST /v1/frames`, takes of one camera.

    Attributes:
        max_fps: frames a second of a camera, on average; more get 429 and how long to wait.
        burst: frames that a camera may send at once after a pause.
        body_s: how long a request may take to arrive.
    """

    max_fps: Annotated[float, Field(gt=0, le=10_000)] = 60.0
    burst: Annotated[int, Field(ge=1, le=10_000)] = 30
    body_s: Annotated[float, Field(gt=0, le=600)] = 5.0


class ConsoleSettings(Settings):
    """Who may see the console, `/console/`.

    Attributes:
        token_file: holds the token that lets others in; None: a browser on the same machine only.
    """

    token_file: Path | None = None


class ScalingSettings(Settings):
    """How many replicas there are to be: what the operator wants of the scaling.

    Attributes:
        min_replicas: never fewer; 0 lets an idle application go to sleep.
        max_replicas: never more.
        drain_s: a backlog is to be worked off in this time.
        target_utilisation: the fraction of its service rate that a replica is meant to carry when
            it is alone; of many, each carries more.
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


class TracingSettings(Settings):
    """Traces of frames for OpenTelemetry; needs the extra `tracing`.

    Attributes:
        endpoint: of a collector, OTLP over HTTP: http://HOST:4318/v1/traces; None: there are none.
        share: of the frames, [0, 1].
    """

    endpoint: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.01


class WorkerSettings(Settings):
    """What the application does with the frames, and with how many replicas.

    Attributes:
        stream: where the frames come from.
        ingress: what is taken by HTTP.
        scaling: how many replicas there are to be.
        console: who may see the console.
        tracing: where traces of frames go.
        bundle: the model bundle: a name, a folder or a URL, see `workers/replica/bundles.py`.
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
    ingress: IngressSettings = IngressSettings()
    scaling: ScalingSettings = ScalingSettings()
    console: ConsoleSettings = ConsoleSettings()
    tracing: TracingSettings = TracingSettings()
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


class CandidateSettings(Settings):
    """A second bundle, tried before it takes over.

    Attributes:
        bundle: as `WorkerSettings.bundle`.
        shadow: share of the frames that it judges, too, unseen by doors, [0, 1].
        canary: share of the cameras that it decides on, chosen by their names, [0, 1].
    """

    bundle: str
    shadow: Annotated[float, Field(ge=0, le=1)] = 0.0
    canary: Annotated[float, Field(ge=0, le=1)] = 0.0


class LiveSettings(Settings):
    """What may change while replicas run: the deployment's `user_config`.

    Attributes:
        bundle: takes the place of `WorkerSettings.bundle`; None: that one.
        candidate: is loaded beside it; None: there is none.
        previous: which bundle it took over from, for `livegate model rollback`; replicas don't look
            at it.
    """

    bundle: str | None = None
    candidate: CandidateSettings | None = None
    previous: str | None = None


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
