// A camera in Node 20 or newer: one frame.
//
//     npm install --prefix examples/node
//     livegate keys add gate-1
//     livegate keys export gate-1 --out gate-1.json
//     node examples/node/camera.mjs gate-1
//
// in the folder where `livegate up` runs. The format, to the byte: workers/README.md.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import { encode } from "@msgpack/msgpack";
import { createClient } from "redis";

const cameraId = process.argv[2];
const address = JSON.parse(readFileSync(".livegate/deployment.json", "utf8"));
const key = Buffer.from(JSON.parse(readFileSync(`${cameraId}.json`, "utf8"))[cameraId], "hex");
const shot = (name) => // instead of your sensors
  readFileSync(new URL(`../../loadtest/samples/p000_0_${name}`, import.meta.url));

const nowMs = performance.timeOrigin + performance.now(); // Unix ms, with fractions
const frame = {
  v: 1,
  camera_id: cameraId,
  seq: Math.round(nowMs * 1000), // microseconds since 1970: no two frames of a camera share one
  captured_at_ms: Math.round(nowMs),
  face_box: [70, 64, 67, 84], // x, y, w, h in px of the RGB picture
  planes: {
    rgb: { codec: "jpeg", data: shot("rgb.jpg") },
    depth: { codec: "png", data: shot("depth.png"), unit_mm: 1 },
    ir: { codec: "jpeg", data: shot("ir.jpg") },
  },
};
const packed = Buffer.from(encode(frame));
const signature = createHmac("sha256", key).update(packed).digest();
const partition = crc32(cameraId) % address.partitions;

// No retry: where the answer got lost the frame may have arrived, and a second copy is a replay.
const server = createClient({
  url: address.redis_url,
  disableOfflineQueue: true,
  socket: { reconnectStrategy: false },
});
await server.connect();
const entryId = await server.xAdd(`livegate:{${partition}}:frames`, "*", { f: packed, s: signature });
console.log("arrived as", entryId);
await server.close();
