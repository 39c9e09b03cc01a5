"""A bundle's network as an exported graph, run by ONNX Runtime: no torch in this process.

A graph is built once for all replicas of a machine, in a process of its own, and kept by the
content that it is made of; whoever needs it meanwhile waits for it.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.planes import MODALITIES, PlaneBatch
from model.errors import ModelError
from model.serving.folder import cache_home
from model.serving.served import ServedBundle

INPUTS = (*MODALITIES, "present")
OUTPUTS = ("score", "evidence")
_BUILD_S = 600


class GraphError(ModelError):
    """There is no graph to run: it can't be built, or it does not do what the network does."""


class GraphRunner:
    """Runs a graph with ONNX Runtime on the CPU; see `model.serving.engine.Runner`."""

    def __init__(self, path: Path, num_threads: int) -> None:
        """Load a graph.

        Raises:
            GraphError: ONNX Runtime is not there, or refuses the graph.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - of the extra `serve`, which the reference needs not
        except ImportError as error:
            raise GraphError(f"ONNX Runtime can't be imported: {error}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from whoever shares them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no type
            raise GraphError(f"{path}: ONNX Runtime refuses it: {error!s:.300}") from error
        self.name = "graph on cpu"

    def run(self, batch: PlaneBatch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Runner.run`."""
        scores, evidence = self._session.run(OUTPUTS, inputs(batch))
        return scores, evidence


def inputs(batch: PlaneBatch) -> dict[str, NDArray[Any]]:
    """Return a batch as the graph takes it: the exporter has no unsigned 16-bit type."""
    arrays = {name: getattr(batch, name) for name in INPUTS}
    return {**arrays, "depth": batch.depth.astype(np.int32)}


def graph_runner(bundle: ServedBundle, num_threads: int) -> GraphRunner:
    """Return what runs the bundle's graph, which is built first if nobody has yet.

    Raises:
        GraphError: it can't be built or run.
    """
    folder = _cache()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="livegate-graph-") as name:
            return GraphRunner(_built(bundle, Path(name)), num_threads)
    return GraphRunner(_built(bundle, folder), num_threads)


def graph_key(bundle: ServedBundle) -> str:
    """Return the name of a bundle's graph: a hash of all that it is made of."""
    made_of = hashlib.sha256(bundle.digest.encode())
    for package, pattern in (("model.network", "*.py"), ("model.serving", "exporting.py")):
        for source in sorted(Path(str(files(package))).glob(pattern)):
            made_of.update(source.read_bytes())
    for name in ("torch", "onnx"):
        try:
            made_of.update(metadata.version(name).encode())
        except metadata.PackageNotFoundError as error:
            raise GraphError(f"a graph is built with {name}, which is not installed") from error
    return made_of.hexdigest()[:32]


def _cache() -> Path | None:
    """Return where graphs are kept; None: nothing can be kept here."""
    folder = cache_home() / "graphs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _built(bundle: ServedBundle, folder: Path) -> Path:
    path = folder / f"{graph_key(bundle)}.onnx"
    if path.exists():
        return path
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            build_graph(bundle, path)
    return path


def build_graph(bundle: ServedBundle, path: Path) -> None:
    """Write a bundle's graph, whole or not at all, from a process of its own.

    Raises:
        GraphError: it can't be built, or does not give the network's scores.
    """
    command = [sys.executable, "-m", "model.serving.exporting", str(bundle.folder), str(path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, timeout=_BUILD_S, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GraphError(f"the graph of {bundle.model_id} can't be built: {error}") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason is given"]
        raise GraphError(f"the graph of {bundle.model_id} can't be built: {last[0]:.300}")
