"""``python scripts/large_crowds.py CHECKPOINT none auto 640x480``: AP, time and memory of tiles on large generated crowds."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import cis_seg
from cis_seg.coco import rle
from cis_seg.data.synthetic.scene import compose_scene
from cis_seg.data.synthetic.spec import EASY

MOST = 1000  # detections per image that are kept and scored


def main() -> int:
    """Draw the images, predict them once per division, each in a separate process, and print a table."""
    parser = argparse.ArgumentParser(description="Measures prediction in tiles on images composed of many scenes of the generated crowd.")
    parser.add_argument("checkpoint", help="best.ckpt of a run on the generated crowd")
    parser.add_argument("tiles", nargs="+", help="none, auto or WIDTHxHEIGHT, each with /OVERLAP if it is not 0.2")
    parser.add_argument(
        "--scales", default="1,1,1,1", help="size of the scenes of each row, relative to 320 x 240 pixels (default: %(default)s)"
    )
    parser.add_argument("--width", type=int, default=1280, help="width of the images in pixels (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4, help="number of images (default: %(default)s)")
    parser.add_argument("--score-threshold", type=float, default=0.05, help="as in predict (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder that keeps images, ground truth, results and drawings")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        _predict(args)
        return 0
    with contextlib.ExitStack() as stack:
        args.output = args.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        people = _draw(args.output, args.images, args.width, [float(scale) for scale in args.scales.split(",")])
        size = Image.open(args.output / "0.png").size
        print(f"{args.images} images of {size[0]} x {size[1]} pixels, {people} people")
        print(f"{'tiles':16} {'AP':>6} {'AP50':>6} {'found':>6} {'s/image':>8} {'peak MB':>8}")
        for tiles in args.tiles:
            command = [sys.executable, __file__, args.checkpoint, tiles, "--one", "--output", str(args.output)]
            done = subprocess.run([*command, "--score-threshold", str(args.score_threshold)], check=True, capture_output=True, text=True)
            one = json.loads(done.stdout)
            ap, ap50 = _score(args.output, one["results"])
            print(f"{tiles:16} {ap:6.1f} {ap50:6.1f} {len(one['results']):6} {one['seconds']:8.1f} {one['megabytes']:8.0f}", flush=True)
    return 0


def _draw(folder: Path, images: int, width: int, scales: list[float]) -> int:
    """Write the images and their ground truth, and return the number of people; one row of scenes per scale, of the split ``val``."""
    folder.mkdir(parents=True, exist_ok=True)
    heights = [round(EASY.height * scale) for scale in scales]
    size, scene, annotations = (sum(heights), width), 0, list[dict[str, Any]]()
    for image in range(images):
        pixels, y = np.zeros((*size, 3), np.uint8), 0
        for height in heights:
            side = round(height * EASY.width / EASY.height)
            for x in range(0, width, side):
                drawn, scene = compose_scene(EASY, 1, scene), scene + 1
                shown = min(side, width - x)
                pixels[y : y + height, x : x + shown] = cv2.resize(drawn.image, (side, height), interpolation=cv2.INTER_CUBIC)[:, :shown]
                for person in drawn.people:
                    mask = cv2.resize(person.mask.astype(np.uint8), (side, height), interpolation=cv2.INTER_NEAREST)[:, :shown]
                    code = rle.placed(rle.encode(mask), (x, y), size)
                    if mask.any():
                        entry = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": int(person.ignored)}
                        annotations.append(entry | {"bbox": rle.tight_box(code), "area": rle.area(code), "segmentation": rle.to_json(code)})
            y += height
        Image.fromarray(pixels).save(folder / f"{image}.png")
    listed = [{"id": image, "file_name": f"{image}.png", "height": size[0], "width": size[1]} for image in range(images)]
    truth = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return sum(not entry["iscrowd"] for entry in annotations)


def _predict(args: argparse.Namespace) -> None:
    network = cis_seg.load(args.checkpoint)
    tiles, _, overlap = args.tiles[0].partition("/")
    options: dict[str, Any] = {} if tiles == "none" else {"tiles": tiles, "overlap": float(overlap or 0.2)}
    files = sorted(args.output.glob("[0-9].png"))
    network.predict(np.zeros((64, 64, 3), np.uint8))  # the first prediction of a process is slower
    started, results = time.perf_counter(), []
    for image, path in enumerate(files):
        found = network.predict(path, args.score_threshold, max_detections=MOST, **options)
        results += found.to_coco(image)
    seconds = (time.perf_counter() - started) / len(files)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found.save(args.output / f"{args.tiles[0].replace('/', '_')}.png", draw_threshold=0.3)
    print(json.dumps({"results": results, "seconds": seconds, "megabytes": megabytes}))


def _score(folder: Path, results: list[dict[str, Any]]) -> tuple[float, float]:
    """Return mask AP and AP50 in percent, of any number of detections per image (COCO's protocol keeps 100)."""
    if not results:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        evaluator = COCOeval(truth, truth.loadRes(results), "segm")
        evaluator.params.maxDets = [MOST]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], evaluator.params.areaRngLbl[:1]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, 0, 0, 0]
    return 100 * float(precision.mean()), 100 * float(precision[0].mean())


if __name__ == "__main__":
    sys.exit(main())
