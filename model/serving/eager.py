"""A bundle's network as it was trained, run by torch on the CPU or on a CUDA device."""

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.planes import PlaneBatch
from model.data.tensors import PlaneTensors
from model.network.device import default_device
from model.network.mmfcnn import BONA_FIDE, FusionNetwork
from model.serving.bundle import Bundle
from model.serving.engine import Engine


class EagerRunner:
    """Runs a network layer by layer; see `model.serving.engine.Runner`."""

    def __init__(self, network: FusionNetwork, device: torch.device) -> None:
        """Take over a network, change it for inference, and move it to a device."""
        self.name = f"eager on {device.type}"
        self._device = device
        self._network: FusionNetwork = network.fold().to(device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, batch: PlaneBatch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Runner.run`."""
        arrays = (batch.rgb, batch.depth, batch.ir, batch.present)
        with torch.inference_mode():
            planes = PlaneTensors(*(torch.from_numpy(each).to(self._device) for each in arrays))
            output = self._network(planes)
            scores = output.logits.softmax(1)[:, BONA_FIDE]
            return scores.cpu().numpy(), output.evidence.cpu().numpy()


def eager_engine(
    bundle: Bundle, max_batch: int = 16, num_threads: int = 1, device: str = "auto"
) -> Engine:
    """Return an engine that runs the bundle's network as it was trained.

    Args:
        bundle: from `load_bundle`; the engine takes over its network and changes it.
        max_batch: largest number of faces in one call.
        num_threads: CPU threads per call.
        device: `cpu`, `cuda`, or `auto`: CUDA where there is one.

    Raises:
        SelfTestFailed: the network does not give the scores it was released with.
    """
    torch.set_num_threads(num_threads)
    where = default_device() if device == "auto" else torch.device(device)
    return Engine(bundle, EagerRunner(bundle.network, where), max_batch)
