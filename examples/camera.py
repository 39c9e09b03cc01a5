"""A camera, with Livegate's client: what its three sensors see, five times a second.

    .venv/bin/python examples/camera.py

in the folder where `livegate up` runs, whose `.livegate` has the addresses and the keys.
"""

# README.md prints what follows.
import time
from importlib.resources import files

import cv2

from deploy.local.home import Home
from workers.client.camera import Camera, jpeg

home = Home()  # the folder .livegate of `livegate up`
address, key = home.address(), home.key_of("gate-1")
camera = Camera(address.redis_url, "gate-1", key, partitions=address.partitions)

shots = files("loadtest") / "samples"  # instead of your sensors
rgb = cv2.imread(f"{shots}/p000_0_rgb.jpg", cv2.IMREAD_COLOR_RGB)  # uint8 (H, W, 3)
depth_mm = cv2.imread(f"{shots}/p000_0_depth.png", cv2.IMREAD_UNCHANGED)  # uint16 (H, W), 0 = hole
ir = cv2.imread(f"{shots}/p000_0_ir.jpg", cv2.IMREAD_GRAYSCALE)  # uint8 (H, W)

visit = f"gate-1-{time.time_ns()}"
for _ in range(10):
    camera.publish(
        {"rgb": jpeg(rgb), "depth": camera.depth(depth_mm), "ir": jpeg(ir)},
        face_box=(70, 64, 67, 84),  # x, y, w, h in px of the RGB picture, as your detector finds it
        presentation_id=visit,  # the person who stands there, as long as they stay
    )
    time.sleep(0.2)
print(camera.close())  # how many were acknowledged, dropped, unknown, refused
