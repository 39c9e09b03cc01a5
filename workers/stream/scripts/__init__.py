"""The stream's Lua scripts: each has a header that names its keys, its arguments and its result.

Numbers and names of the results stand once, in `workers.stream.delivery.CommitResult`.
"""

from functools import cache
from importlib.resources import files

import msgpack

from workers.stream.delivery import CommitResult
from workers.stream.server import Script

# allow-oom: what frees memory must run on a full server; there the cameras are refused instead.
# allow-cross-slot-keys: one call for all partitions of a cluster's server.
_FLAGS = {
    "ingest": "",
    "backlog": "allow-oom,allow-cross-slot-keys,no-writes",
    "read": "allow-oom,allow-cross-slot-keys",
    "reclaim": "allow-oom,allow-cross-slot-keys",
    "repair_ids": "allow-oom,allow-cross-slot-keys",
}
_INCLUDES = {"admit": ("clock", "seq_memory"), "commit": ("clock", "seq_memory", "presentation")}


@cache
def script(name: str) -> Script:
    """Return a script as the server takes it, with what it includes."""
    includes = _INCLUDES.get(name, ())
    results = ", ".join(CommitResult.__members__)
    numbers = ", ".join(str(result.value) for result in CommitResult)
    flags = _FLAGS.get(name, "allow-oom")
    head = f"#!lua flags={flags}\n" if flags else "#!lua\n"
    shared = f"local {results} = {numbers}\n" if includes else ""
    texts = [
        files(__name__).joinpath(f"{part}.lua").read_text(encoding="ascii")
        for part in (*includes, name)
    ]
    return Script(head + shared + "".join(texts))


def packed(**values: object) -> bytes:
    """Return named values as one argument of a script."""
    # Without the newer binary type, which the server's own msgpack does not read.
    argument: bytes = msgpack.packb(values, use_bin_type=False)
    return argument
