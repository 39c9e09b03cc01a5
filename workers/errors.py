"""The root of this package's errors: a frame, a setting, a key or a server that can't be used.

    WorkerError
    +-- PipelineStalled   workers.replica.pipeline
    +-- NotCommitted      workers.replica.pipeline
    +-- StreamError       workers.stream.redis_stream
    +-- TracingError      workers.replica.tracing
    +-- FrameRefused      workers.wire.refusal
    +-- KeyFileError      workers.wire.keyring
    +-- KeyRefused        workers.wire.signing

The command shows each of them in one line; the message says what is wrong and what to do.
"""


class WorkerError(Exception):
    """Something that the person at the keyboard, or whoever sent it, can mend."""
