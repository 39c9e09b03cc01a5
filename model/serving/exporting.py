"""A bundle's network as an ONNX graph that has preprocessing and softmax inside.

    python -m model.serving.exporting BUNDLE GRAPH

is what `model.serving.graph` runs in a process of its own, so that torch stays out of a replica.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.data.tensors import PlaneTensors
from model.network.mmfcnn import BONA_FIDE, FusionNetwork
from model.serving.bundle import load_bundle
from model.serving.graph import INPUTS, OUTPUTS, GraphError, GraphRunner, inputs

_OPSET = 18
# What rounding may change of a score on one and the same machine.
_TOLERANCE = 1e-3


def export(folder: Path, path: Path) -> None:
    """Write the graph of a bundle, whole or not at all, once it gives the network's own scores.

    Raises:
        BundleError: there is no such bundle.
        GraphError: the graph's scores differ from the network's.
    """
    bundle = load_bundle(folder)
    network = bundle.network.fold()
    selftest = bundle.selftest
    planes = tuple(map(torch.from_numpy, inputs(selftest).values()))
    with torch.inference_mode():
        expected = _WithSoftmax(network)(*planes)
    partial = path.with_suffix(".partial")
    with warnings.catch_warnings():
        # The newer exporter takes ten times as long, for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _WithSoftmax(network),
            planes,
            partial,
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "faces"} for name in (*INPUTS, *OUTPUTS)},
        )
    found = GraphRunner(partial, 1).run(selftest)
    worst = max(
        float(np.abs(one - other.numpy()).max()) for one, other in zip(found, expected, strict=True)
    )
    if not worst <= _TOLERANCE:
        raise GraphError(f"the graph of {bundle.model_id} is off by {worst:.2g}")
    partial.replace(path)


class _WithSoftmax(nn.Module):
    """What a replica needs of a network: scores and evidence."""

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, rgb: Tensor, depth: Tensor, ir: Tensor, present: Tensor
    ) -> tuple[Tensor, ...]:
        output = self.network(PlaneTensors(rgb, depth, ir, present))
        return output.logits.softmax(1)[:, BONA_FIDE], output.evidence


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
