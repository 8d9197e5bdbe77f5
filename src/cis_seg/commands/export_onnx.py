"""``python scripts/export_onnx.py checkpoint=... out=model.onnx``: export the network of a checkpoint, to run without this package."""

from __future__ import annotations

import json
import logging
import subprocess
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from cis_seg import __version__
from cis_seg.config.command_schema import ExportConfig
from cis_seg.config.validation import checked
from cis_seg.errors import ConfigError
from cis_seg.inference.onnx_graph import OUTPUTS, OnnxGraph
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import Trained, load_trained, test_transform
from cis_seg.model.condinst import LEVELS
from cis_seg.runtime.atomic_files import write_atomically

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # the extra `export` of pyproject.toml
OPSET = 20  # the lowest with deformable convolution (added in 19) that the exporter writes without a conversion between opsets
TRACED_SIZE = (203, 301)  # px; neither side is a multiple of 32, and no level is one cell high
CHECKED_SIZE = (160, 90)  # px; another shape, with a level one cell wide


def export_onnx(cfg: DictConfig) -> None:
    """Write the network of a checkpoint and all of inference as one ONNX file, and compare it once with PyTorch.

    Raises:
        UserError: a mistake of the user, with what to do about it.
    """
    typed: ExportConfig = checked(cfg)
    out = Path(typed.out)
    _check(out)
    trained = load_trained(Path(typed.checkpoint))
    graph = OnnxGraph(trained.model, Postprocess(typed))
    proto = export(graph, model_metadata(trained, graph.settings, Path(typed.checkpoint)))
    agreement = compared(graph, proto)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, proto.SerializeToString())
    log.info("wrote %s, %.1f MB; %s", out, out.stat().st_size / 1e6, agreement)


def _check(out: Path) -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "an export needs packages that are not installed",
            expected=", ".join(PACKAGES),
            found=f"no {', '.join(missing)}",
            remedy='pip install "cis-seg[export]", in a checkout pip install -e ".[export]"',
        )
    there = next(path for path in (out, *out.parents) if path.exists())  # "." or "/" at last
    if there == out or not there.is_dir():
        found = f"the folder {there}" if there.is_dir() else f"the file {there}, which is not overwritten"
        raise ConfigError("the model cannot be written there", where=f"out={out}", expected="the name of a new file", found=found)


def model_metadata(trained: Trained, settings: Postprocess, checkpoint: Path) -> dict[str, str]:
    """Return the metadata of the file: the meaning of inputs and outputs, the settings, and the origin. Lists are JSON."""
    transform = test_transform(trained, None, None)
    return {
        "cis_seg_version": __version__,
        "cis_seg_commit": _commit(),
        "run": str(trained.config.get("name", "")),
        "seed": str(trained.config.get("seed", "")),
        "checkpoint": checkpoint.name,  # without its folder, which may be private
        "input": "image: uint8 RGB (3, height, width), one image of any size",
        "outputs": "boxes (n, 4) float32 x0 y0 x1 y1 in pixels of the input, scores (n,), labels (n,) into class_names, "
        "masks (n, height, width) bool; best score first",
        "class_names": json.dumps(trained.class_names),
        "category_ids": json.dumps(trained.category_ids),
        "test_size": str(transform.size),  # px, the shorter side of a resized photo, ...
        "test_max_size": str(transform.max_size),  # ... unless its longer side would exceed this
        "strides": json.dumps([2**level for level in LEVELS]),
        "score_threshold": str(settings.detection.score_threshold),
        "nms_threshold": str(settings.detection.nms_threshold),
        "max_detections": str(settings.detection.max_detections),
        "mask_threshold": str(settings.mask_threshold),
        "model": json.dumps(trained.config["model"]),
    }


def _commit() -> str:
    """Return the commit of the checkout; a wheel has none."""
    package = Path(__file__).resolve().parents[1]
    if package.parent.name != "src":
        return "unknown"
    done = subprocess.run(["git", "-C", str(package), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def export(graph: OnnxGraph, metadata: dict[str, str]) -> onnx.ModelProto:
    """Return the ONNX model of ``graph`` for one image of any height and width, with ``metadata`` as its ``metadata_props``."""
    from onnx import helper

    sides = {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations of torch, torchvision and onnxscript
        program = torch.onnx.export(
            graph, (_noise(TRACED_SIZE),), input_names=["image"], output_names=list(OUTPUTS), dynamic_shapes=(sides,),
            opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    _name_axes(proto)
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.ClearField("metadata_props")  # stack traces with paths of this machine
    helper.set_model_props(proto, metadata)
    return proto


def _name_axes(proto: onnx.ModelProto) -> None:
    """Give dynamic axes readable names; the exporter's are formulas."""
    named = {"image": (3, "height", "width"), **OUTPUTS}
    for value in (*proto.graph.input, *proto.graph.output):
        for dim, name in zip(value.type.tensor_type.shape.dim, named[value.name], strict=True):
            if isinstance(name, str):
                dim.dim_param = name


def compared(graph: OnnxGraph, proto: onnx.ModelProto) -> str:
    """Run ``proto`` in onnxruntime on an image of noise, and state its detections beside those of PyTorch."""
    import onnxruntime

    image = _noise(CHECKED_SIZE)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        expected = [value.numpy() for value in graph(image)]
    counts = f"onnxruntime runs it and finds {len(found[0])} in an image of noise, PyTorch {len(expected[0])}"
    if len(found[0]) != len(expected[0]) or not len(found[0]):
        return counts
    return f"{counts}; boxes differ by {np.abs(found[0] - expected[0]).max():.1g} px at most"


def _noise(size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
