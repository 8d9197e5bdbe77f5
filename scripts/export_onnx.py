"""``python scripts/export_onnx.py checkpoint=... out=model.onnx``: a checkpoint's network as a file that runs without this package."""

from __future__ import annotations

from cis_seg.config.commands import start

if __name__ == "__main__":
    start("export_onnx")
