"""What is done to a deployment while it is under load: each fault scheduled, logged and undone."""

from typing import Annotated, Literal

from pydantic import Field

from loadtest.scenario.quantities import Bytes, Seconds, Share
from workers.settings import Settings


class _Fault(Settings):
    """What all faults share.

    Attributes:
        at: when, from the start of the load.
    """

    at: Seconds


class _Lasting(_Fault):
    """A fault that is undone after a while."""

    lasts: Seconds


class ReplicaFault(_Fault):
    """It ends with SIGKILL, or drains; whoever keeps replicas starts another one."""

    do: Literal["kill a replica", "kill all replicas", "drain a replica"]


class ReplicaHeld(_Lasting):
    """It stands still; `slow` lets it run for a quarter of the time."""

    do: Literal["stop a replica", "slow a replica"]


class ModelSwapped(_Fault):
    """All replicas get another model, between two batches."""

    do: Literal["swap the model"]


class ServerFault(_Fault):
    """It is killed and started again; or its standby takes over."""

    do: Literal["restart the server", "fail over the server"]


class ServerHeld(_Lasting):
    """It stands still; has no memory; or can write nothing to its disk."""

    do: Literal["pause the server", "fill the memory", "fill the disk"]


class SlowDisk(_Lasting):
    """Ten times a second, the server waits `by` for its disk."""

    do: Literal["slow the disk"]
    by: Annotated[Seconds, Field(le=0.09)]


class NetworkCut(_Lasting):
    """Nothing gets through between the server and the cameras, the replicas, or both.

    `lose replies`: what they send does, and what the server answers does not.
    """

    do: Literal["cut the network", "lose replies"]
    of: Literal["cameras", "replicas", "both"] = "cameras"


class NetworkSlow(_Lasting):
    """Each way takes `by` longer."""

    do: Literal["delay the network"]
    by: Seconds
    of: Literal["cameras", "replicas", "both"] = "cameras"


class CamerasReconnect(_Fault):
    """All cameras lose their lines at once, and come back at once, as after a power cut."""

    do: Literal["reconnect all cameras"]


class FrameFault(_Lasting):
    """Some of the frames are not as they should be.

    `send corrupt frames`: bytes of the pictures are changed, and signed as they are. `send cut
    frames`: the end is missing. `send duplicate frames`: sent twice, within milliseconds. `replay
    frames`: sent again, a while later. `send oversize frames`: with `size` bytes. `leave out
    planes`: RGB alone. `forge signatures`: with another key.
    """

    do: Literal[
        "send corrupt frames", "send cut frames", "send duplicate frames", "replay frames",
        "leave out planes", "forge signatures",
    ]  # fmt: skip
    share: Share


class Oversize(_Lasting):
    """Frames that are larger than the deployment takes; see `FrameFault`."""

    do: Literal["send oversize frames"]
    share: Share
    size: Annotated[Bytes, Field(le=8e6)] = 1.2e6


class ClockSkew(_Lasting):
    """Some cameras' clocks are wrong: `by` ahead, or behind with `behind = true`."""

    do: Literal["set clocks wrong"]
    share: Share
    by: Seconds
    behind: bool = False


Fault = Annotated[
    ReplicaFault | ReplicaHeld | ModelSwapped | ServerFault | ServerHeld | SlowDisk | NetworkCut
    | NetworkSlow | CamerasReconnect | FrameFault | Oversize | ClockSkew,
    Field(discriminator="do"),
]  # fmt: skip

FRAME_FAULTS = (FrameFault, Oversize, ClockSkew)
