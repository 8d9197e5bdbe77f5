"""``python scripts/convert_adelaidet.py IN.pth OUT.ckpt``: convert a checkpoint of AdelaiDet or detectron2."""

from __future__ import annotations

from cis_seg.commands.convert import convert_adelaidet as main

if __name__ == "__main__":
    raise SystemExit(main())
