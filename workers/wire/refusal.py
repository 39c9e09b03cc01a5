"""Why a frame gets `no_decision`: one class a reason.

    FrameRefused
    +-- BadSignature        bad_signature      the signature is missing or not the camera's
    +-- UnknownCamera       unknown_camera     no key is on file for the camera
    +-- FrameTooLarge       too_large          more bytes than the deployment takes
    +-- MalformedFrame      malformed          not a frame of version 1
    |   +-- UnknownVersion                     the key `v` is not 1
    |   +-- MissingKey                         a key that a frame must have is not there
    |   +-- WrongType                          a value of another type or out of range
    |   +-- ClockAhead                         captured later than now
    |   +-- WrongPartition                     in the frames stream of another partition
    +-- Undecodable         undecodable        a plane is not what it says it is
    +-- ModalityMissing     modality_missing   the model has no threshold for these modalities
    +-- LowQuality          low_quality        the face can't be judged: dark, blurred, too small
    +-- Expired             expired            older than the deadline
    +-- Replayed            replayed           this seq was used before
    +-- SeqMemoryFull       seq_memory_full    too many seqs of the camera are remembered
    +-- OverQuota           over_quota         the camera sends more frames than are judged
    +-- WorkerFailed        worker_failed      whoever worked on it failed or died, repeatedly

None of them ends a replica, and none of them ever becomes `bona_fide`.
"""

from typing import ClassVar

from workers.errors import WorkerError
from workers.wire.decision import Reason

# These leave a dead letter: the frame itself, or what it met here, has to be looked into.
GIVEN_UP = frozenset(
    {
        Reason.BAD_SIGNATURE,
        Reason.UNKNOWN_CAMERA,
        Reason.TOO_LARGE,
        Reason.MALFORMED,
        Reason.UNDECODABLE,
        Reason.WORKER_FAILED,
    }
)


class FrameRefused(WorkerError):
    """The frame gets `no_decision` with `reason`; the message says what is wrong with it."""

    reason: ClassVar[Reason]


class BadSignature(FrameRefused):
    """The signature is missing or is not the camera's."""

    reason = Reason.BAD_SIGNATURE


class UnknownCamera(FrameRefused):
    """No key is on file for the camera."""

    reason = Reason.UNKNOWN_CAMERA


class FrameTooLarge(FrameRefused):
    """The frame is larger than the deployment takes."""

    reason = Reason.TOO_LARGE


class MalformedFrame(FrameRefused):
    """The bytes are not a frame of version 1."""

    reason = Reason.MALFORMED


class UnknownVersion(MalformedFrame):
    """The key `v` is not 1."""


class MissingKey(MalformedFrame):
    """A key that a frame must have is not there."""


class WrongType(MalformedFrame):
    """A value is of another type, or out of the range, that the format says."""


class ClockAhead(MalformedFrame):
    """The frame was captured later than now: the camera's clock has to be set."""


class WrongPartition(MalformedFrame):
    """The frame is in the stream of another partition than its camera's."""


class Undecodable(FrameRefused):
    """A plane's data are not what its codec and its modality say."""

    reason = Reason.UNDECODABLE


class ModalityMissing(FrameRefused):
    """The model was not calibrated for the modalities that the frame has."""

    reason = Reason.MODALITY_MISSING


class LowQuality(FrameRefused):
    """The face can't be judged; the message has the figures and the limits."""

    reason = Reason.LOW_QUALITY


class Expired(FrameRefused):
    """The frame is older than its deadline."""

    reason = Reason.EXPIRED


class Replayed(FrameRefused):
    """The camera used this seq before."""

    reason = Reason.REPLAYED


class SeqMemoryFull(FrameRefused):
    """So many seqs of the camera are remembered that a new one can't be told from a replay.

    It takes many frames stamped far ahead; a new camera key begins with an empty memory.
    """

    reason = Reason.SEQ_MEMORY_FULL


class OverQuota(FrameRefused):
    """The camera sends more frames a second than are judged of one camera."""

    reason = Reason.OVER_QUOTA


class WorkerFailed(FrameRefused):
    """Whoever worked on the frame failed, or died of it."""

    reason = Reason.WORKER_FAILED
