"""``python scripts/loading_cost.py [--share 1.0]``: cost of loading CrowdHuman and COCO at full size, on generated files."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

CROWDHUMAN_RECORDS, PEOPLE_PER_RECORD = 15_000, 30  # the training split: 15,000 images, 339,565 people and 99,227 ignore regions
COCO_IMAGES, COCO_ANNOTATIONS = 118_287, 860_000  # train2017
CORNERS = 26  # of a generated polygon; COCO's have 51 numbers on average
SIDES = (480, 640)


def main() -> int:
    """Generate both files in a temporary folder, load each in a separate process, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Measures time and memory of loading CrowdHuman and COCO annotations at full size, on generated files."
    )
    parser.add_argument("--share", type=float, default=1.0, help="share of the full size, 0 to 1 (default: 1.0)")
    parser.add_argument("--read", nargs=3, metavar=("KIND", "FILE", "IMAGES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        _read(*args.read)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "Images"
        images.mkdir()
        records, people = int(CROWDHUMAN_RECORDS * args.share), int(COCO_ANNOTATIONS * args.share)
        _write_crowdhuman(Path(folder) / "train.odgt", images, records)
        _write_coco(Path(folder) / "train.json", images, int(COCO_IMAGES * args.share), people)
        for kind, name in (("crowdhuman", "train.odgt"), ("crowdhuman", "train.odgt"), ("coco", "train.json")):
            command = [sys.executable, __file__, "--read", kind, f"{folder}/{name}", str(images)]
            if subprocess.run(command, check=False).returncode:
                return 1
    return 0


def _write_crowdhuman(path: Path, images: Path, records: int) -> None:
    draw = random.Random(0)
    photo = images / "27,0.jpg"
    Image.new("RGB", SIDES[::-1]).save(photo)
    with path.open("w", encoding="utf-8") as file:
        for number in range(records):
            entries = []
            for box_id in range(PEOPLE_PER_RECORD):
                box = [draw.randrange(-5, 500), draw.randrange(-5, 300), draw.randrange(5, 200), draw.randrange(5, 300)]
                person = {"tag": "person", "hbox": box, "head_attr": {"ignore": 0, "occ": 0, "unsure": 0}, "fbox": box, "vbox": box}
                entries.append({**person, "extra": {"box_id": box_id, "occ": 0, **({"ignore": 1} if box_id % 4 == 0 else {})}})
            file.write(json.dumps({"ID": f"27,{number}", "gtboxes": entries}) + "\n")
            if number:
                os.link(photo, images / f"27,{number}.jpg")


def _write_coco(path: Path, images: Path, count: int, annotations: int) -> None:
    draw = random.Random(0)
    listed = [{"id": i, "file_name": f"27,{i % CROWDHUMAN_RECORDS}.jpg", "height": SIDES[0], "width": SIDES[1]} for i in range(count)]
    categories = [{"id": i, "name": f"thing {i}"} for i in range(1, 81)]
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"images": {json.dumps(listed)}, "categories": {json.dumps(categories)}, "annotations": [')
        for number in range(annotations):
            outline = [round(draw.uniform(0, 480), 2) for _ in range(2 * CORNERS)]
            box = [outline[0], outline[1], 20.5, 30.25]
            entry = {"id": number + 1, "image_id": number % count, "category_id": 1 + number % 80, "bbox": box, "area": 400.5, "iscrowd": 0}
            file.write((", " if number else "") + json.dumps({**entry, "segmentation": [outline]}))
        file.write("]}")


def _read(kind: str, source: str, images: str) -> None:
    from cis_seg.data.coco import CocoDataset
    from cis_seg.data.crowdhuman import CrowdHumanDataset

    before, started, worked = _peak_mb(), time.perf_counter(), time.process_time()
    data = CrowdHumanDataset(Path(source), Path(images)) if kind == "crowdhuman" else CocoDataset(Path(source), Path(images))
    seconds, processor, peak = time.perf_counter() - started, time.process_time() - worked, _peak_mb() - before
    held = sum(array.nbytes for array in vars(data.records).values() if hasattr(array, "nbytes")) / 2**20
    print(
        f"{kind}: {len(data)} images, {len(data.records.boxes)} boxes in {seconds:.1f} s ({processor:.1f} s of CPU time); "
        f"peak {peak:.0f} MB above imports, index {held:.0f} MB; {_worker_mb(data):.1f} MB more in each of 4 workers",
        flush=True,
    )


def _worker_mb(data: object) -> float:
    """Return the mean private memory added by four forked readers of all boxes; pages are shared until written to."""
    readers = []
    for _ in range(4):
        read, write = os.pipe()
        if os.fork() == 0:
            start = _private_mb()
            for index in range(len(data)):  # type: ignore[arg-type]
                data.path(index)  # type: ignore[attr-defined]
                chosen = slice(*data.records.starts[index : index + 2].tolist())  # type: ignore[attr-defined]
                data.records.boxes[chosen].sum()  # type: ignore[attr-defined]
            os.write(write, f"{_private_mb() - start}".encode())
            os._exit(0)
        readers.append(read)
    return sum(float(os.read(read, 100)) for read in readers) / 4


def _private_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
