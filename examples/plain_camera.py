"""A camera in plain Python, without Livegate: one frame, by `redis` and `msgpack` alone.

    pip install redis msgpack
    livegate keys add gate-1
    livegate keys export gate-1 --out gate-1.json
    python examples/plain_camera.py gate-1

in the folder where `livegate up` runs. The format, to the byte: workers/README.md.
"""

import hmac
import json
import sys
import time
from pathlib import Path
from zlib import crc32

import msgpack
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

camera_id = sys.argv[1]
address = json.loads(Path(".livegate/deployment.json").read_text())
key = bytes.fromhex(json.loads(Path(f"{camera_id}.json").read_text())[camera_id])
shots = Path(__file__).parents[1] / "loadtest" / "samples"  # instead of your sensors

now_ns = time.time_ns()
frame = {
    "v": 1,
    "camera_id": camera_id,
    "seq": now_ns // 1_000,  # microseconds since 1970: no two frames of a camera share one
    "captured_at_ms": now_ns // 1_000_000,
    "face_box": [70, 64, 67, 84],  # x, y, w, h in px of the RGB picture
    "planes": {
        "rgb": {"codec": "jpeg", "data": (shots / "p000_0_rgb.jpg").read_bytes()},
        "depth": {"codec": "png", "data": (shots / "p000_0_depth.png").read_bytes(), "unit_mm": 1},
        "ir": {"codec": "jpeg", "data": (shots / "p000_0_ir.jpg").read_bytes()},
    },
}
packed = msgpack.packb(frame)
signature = hmac.digest(key, packed, "sha256")
partition = crc32(camera_id.encode()) % address["partitions"]

# No retry: where the answer got lost the frame may have arrived, and a second copy is a replay.
server = redis.Redis.from_url(
    address["redis_url"], socket_timeout=2, retry=Retry(NoBackoff(), retries=0)
)
entry_id = server.xadd(f"livegate:{{{partition}}}:frames", {"f": packed, "s": signature})
print("arrived as", entry_id.decode())
