"""Names of the keys in Redis, and the partition that a camera's frames belong to.

The braces are the Redis Cluster hash tag: all keys of one partition share a slot, so one script
can commit across them. The names are a promise to integrators and to ACL files.
"""

import hashlib
from zlib import crc32

GROUP = "livegate"


def partition_of(camera_id: str, num_partitions: int) -> int:
    """Return the partition, 0 to `num_partitions` - 1, that holds all keys of a camera."""
    return crc32(camera_id.encode("ascii")) % num_partitions


def frames(partition: int) -> str:
    """Stream of the frames that wait or are worked on; a commit deletes its entry."""
    return f"livegate:{{{partition}}}:frames"


def number_of(frames_key: str) -> int:
    """Return the partition whose `frames` key this is."""
    return int(frames_key[frames_key.index("{") + 1 : frames_key.index("}")])


def decisions(partition: int) -> str:
    """Stream of all decisions of a partition, trimmed by length."""
    return f"livegate:{{{partition}}}:decisions"


def camera_decisions(partition: int, camera_id: str) -> str:
    """Stream of one camera's last decisions: what its door controller reads."""
    return f"livegate:{{{partition}}}:decisions:{camera_id}"


def dead(partition: int) -> str:
    """Stream of the frames given up on: metadata and error, never the picture."""
    return f"livegate:{{{partition}}}:dead"


def seen(partition: int, camera_id: str, key_id: str) -> str:
    """Sorted set of the seqs that a camera used lately, under one of its keys."""
    return f"livegate:{{{partition}}}:seen:{camera_id}:{key_id}"


def presentation(partition: int, camera_id: str, key_id: str, presentation_id: str) -> str:
    """Evidence on a presentation so far; it expires by itself."""
    digest = hashlib.sha256(presentation_id.encode()).hexdigest()[:16]
    return f"livegate:{{{partition}}}:presentation:{camera_id}:{key_id}:{digest}"


def attempts(partition: int, camera_id: str, key_id: str) -> str:
    """How many presentations were refused lately at a camera; it expires by itself."""
    return f"livegate:{{{partition}}}:attempts:{camera_id}:{key_id}"


def admitted(partition: int, token: str) -> str:
    """Mark of one attempt to use a seq, for a frame that came by HTTP; it expires by itself."""
    return f"livegate:{{{partition}}}:admitted:{token}"


def rate(partition: int, camera_id: str) -> str:
    """When a camera may send the next frame to the ingress, Unix ms; it expires by itself."""
    return f"livegate:{{{partition}}}:rate:{camera_id}"


NUM_COPIES = 4
"""Of what all replicas must know of each other there are copies, on several servers of a cluster:
one that is away hides nothing. A single server has the first only."""


def members(copy: int) -> str:
    """Hash of the replicas that are alive: name to last beat."""
    return f"livegate:{{{copy}}}:members"


def codecs(copy: int) -> str:
    """The codecs of planes that the deployment takes, separated by spaces."""
    return f"livegate:{{{copy}}}:codecs"


def layout(copy: int) -> str:
    """The number of partitions that the streams were laid out for."""
    return f"livegate:{{{copy}}}:layout"


def replicas(copy: int) -> str:
    """Hash of what each replica says of itself: name to JSON, see `workers/stream/roster.py`."""
    return f"livegate:{{{copy}}}:replicas"


def shadow(pair: str) -> str:
    """Hash of counts: what a candidate would have decided, beside what was; it expires by itself.

    Args:
        pair: names both bundles.
    """
    return f"livegate:{{0}}:shadow:{pair}"
