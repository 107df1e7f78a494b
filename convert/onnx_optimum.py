"""The ONNX graph that optimum's exporter makes, in a process of its own: text-generation-with-past, fp32 or int8.

optimum traces the model as transformers runs it, so the whole of it is in memory, twice while it is written: 8 bytes a
weight. int8 is onnxruntime's dynamic quantization of that graph: weights by column, and the inputs of a multiplication
all with one scale, so that a token's logits depend a little on which tokens are fed along with it.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from toolace_edge.engines.onnx_native import native
from toolace_edge.errors import MissingDependency

from .checkpoint import read_checkpoint
from .child import Progress, run_child, serve
from .torch_model import float32_model

PRECISIONS = ("fp32", "int8")
_TASK = "text-generation-with-past"
_MODEL_FILE = "model.onnx"
_MAX_PROTOBUF_BYTES = 1_900_000_000
_STEPS = 3


def export_optimum(
    source: Path, base: Path | None, precision: str, folder: Path, on_progress: Progress | None = None
) -> None:
    """Write model.onnx, and beside it a file of weights where it is large, into the empty `folder`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, not one of {', '.join(PRECISIONS)}")
    check_installed()
    job = {"source": str(source), "base": base and str(base), "precision": precision, "folder": str(folder)}
    run_child(__name__, job, f"{source}: optimum could not export it", on_progress)


def check_installed() -> None:
    """MissingDependency where optimum's exporter is not there; nothing heavy is imported."""
    for package in ("optimum-onnx", "torch", "transformers", "onnx"):
        try:
            version(package)
        except PackageNotFoundError as error:
            raise MissingDependency(package, "optimum") from error


def work(job: dict[str, Any], on_progress: Progress) -> None:
    """The child."""
    folder = Path(job["folder"])
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        tempfile.tempdir = aside  # where onnxruntime writes what it reads again: as much as the model
        _export(job, Path(aside), on_progress)
        exported = Path(aside) / _MODEL_FILE
        if job["precision"] == "int8":
            _quantize(exported, folder / _MODEL_FILE)
        else:
            for file in (exported, _weights(exported)):
                if file.exists():
                    file.rename(folder / file.name)
    on_progress(_STEPS, _STEPS)


def _export(job: dict[str, Any], folder: Path, on_progress: Progress) -> None:
    native()  # before optimum loads it
    from optimum.exporters.onnx import onnx_export_from_model

    checkpoint = read_checkpoint(job["source"], job["base"])
    model = float32_model(checkpoint)
    on_progress(1, _STEPS)
    onnx_export_from_model(model, folder, task=_TASK, do_validation=False)
    on_progress(2, _STEPS)


def _weights(model: Path) -> Path:
    """Where optimum puts what does not fit into one protobuf message."""
    return model.with_name(f"{model.name}_data")


def _quantize(exported: Path, out: Path) -> None:
    native()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    files = (exported, _weights(exported))
    size = sum(file.stat().st_size for file in files if file.exists())
    quantize_dynamic(
        exported,
        out,
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=size > _MAX_PROTOBUF_BYTES,
    )


if __name__ == "__main__":
    sys.exit(serve(work))
