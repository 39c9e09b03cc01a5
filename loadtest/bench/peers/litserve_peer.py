"""LitServe: one worker, which opens and judges batches.

python -m loadtest.bench.peers.litserve_peer PORT
"""

import sys
from typing import Annotated, Any

import litserve
from fastapi import Body, Response

from loadtest.bench.peers.judging import WAIT_S, FrameJudge, Opened, settings


class Api(litserve.LitAPI):  # type: ignore[misc] # has no types
    """The one endpoint."""

    def setup(self, device: Any) -> None:  # noqa: ANN401 - LitServe's
        """Load the engine."""
        self._judge = FrameJudge(settings())

    def decode_request(
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> Opened:
        """Open one frame."""
        return self._judge.open(request)

    def batch(self, inputs: list[Opened]) -> list[Opened]:
        """Keep a batch as it is."""
        return inputs

    def predict(self, batch: list[Opened]) -> list[bytes]:
        """Judge one batch."""
        return self._judge.judge(batch)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """Keep the answers as they are."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Answer with the decision."""
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Api(max_batch_size=settings().max_batch, batch_timeout=WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
