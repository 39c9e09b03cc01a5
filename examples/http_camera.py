"""A camera by HTTP: one frame out, its decision back. Needs `msgpack`, and no Redis client.

    pip install msgpack
    livegate keys add gate-1
    livegate keys export gate-1 --out gate-1.json
    python examples/http_camera.py gate-1

in the folder where `livegate up` runs. The format, to the byte: workers/README.md.
"""

import hmac
import json
import sys
import time
import urllib.request
from pathlib import Path

import msgpack

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

request = urllib.request.Request(
    f"{address['http_url']}/v1/decide",
    data=packed,
    headers={"X-Livegate-Signature": hmac.digest(key, packed, "sha256").hex()},
)
with urllib.request.urlopen(request, timeout=5) as answer:
    decision = json.load(answer)
print(decision["outcome"], decision["reason"] or decision["score"])
