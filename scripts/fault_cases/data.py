"""Faults of images, annotations and data loading workers, and the memory that unusual images take."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fault_cases.frame import IDENTICAL, Fault, Outcome, Sandbox
from faulty import compared, rows_of, sends
from step_faults import spoils

HEIGHT, WIDTH = 96, 128
#: additional memory that an unusual image may take, in 10^9 bytes; a decoded panorama of 20,000 x 1,500 pixels takes 0.09
MORE_MEMORY = 0.5


def photos(root: Path, count: int, boxes: dict[int, list[list[float]]] | None = None) -> Path:
    """Write a COCO data set of ``count`` training and three scored images with one person each; ``boxes`` replaces those of some images."""
    (root / "annotations").mkdir(parents=True)
    for part, number in (("train2017", count), ("val2017", 3)):
        (root / part).mkdir()
        annotations: list[dict[str, Any]] = []
        for index in range(number):
            x, y, w, h = 10 + index % 40, 10 + index % 20, 40, 60
            image = Image.fromarray(np.random.default_rng(index).integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8))
            ImageDraw.Draw(image).ellipse((x, y, x + w, y + h), fill=(220, 90, 60))
            image.save(root / part / f"{index:03d}.jpg")
            given = (boxes or {}).get(index) if part == "train2017" else None
            for box in [[float(x), y, w, h]] if given is None else given:
                annotations.append(annotation(len(annotations) + 1, index, box))
        images = [{"id": i, "file_name": f"{i:03d}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(number)]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def annotation(number: int, image: int, box: list[float]) -> dict[str, Any]:
    """Return a COCO annotation of a person, with the box as its polygon."""
    x, y, w, h = box
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": w * h, "iscrowd": 0, "segmentation": [outline]}


def command(sandbox: Sandbox, root: Path, *overrides: str) -> list[str]:
    """Return the command line of a small run on the data set in ``root``."""
    wanted = sandbox.command("data=coco", f"data.root={root}", "name=data", *overrides)
    return [argument for argument in wanted if not argument.startswith("data.num_")]  # options of the generated crowd


def one_percent(sandbox: Sandbox) -> Outcome:
    """One epoch of 200 images, one truncated and one missing; and the same epoch, stopped and resumed."""
    root = photos(sandbox.folder / "photos", 200)
    cut, gone = root / "train2017" / "117.jpg", root / "train2017" / "031.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    gone.unlink()
    epoch = ("optim.batch_size=8", "schedule.max_steps=25", "schedule.val_every=25")
    code = sandbox.finish(command(sandbox, root, *epoch))
    reported = [sandbox.output().count(f"{problem}") for problem in ("117.jpg cannot be read as an image", "image 031.jpg is missing")]
    stopped = sandbox.finish(command(sandbox, root, *epoch, "name=stopped", *sends(13)))
    resumed = sandbox.finish(command(sandbox, root, *epoch, "name=stopped", "resume=true"))
    problems = [f"exit codes {code}, {stopped}, {resumed}"] if (code, stopped, resumed) != (0, 143, 0) else []
    problems += [] if reported == [1, 1] else [f"reported {reported} times"]
    problems += [] if problems else compared(sandbox.run_of("stopped"), sandbox.run_of("data"))
    happened = "both reported once and replaced by others; interrupted and resumed, it ended "
    return Outcome(happened + ("bit-identical" if not problems else "; ".join(problems[:3])), nothing_lost=not problems)


def all_corrupt(sandbox: Sandbox) -> Outcome:
    """Every training image is truncated."""
    root = photos(sandbox.folder / "photos", 30)
    for path in (root / "train2017").iterdir():
        path.write_bytes(path.read_bytes()[:-300])
    return rejected(sandbox, root, "too many images cannot be read", "data.max_faulty")


def rejected(sandbox: Sandbox, root: Path, *words: str) -> Outcome:
    """Start a run that must end with exit code 2 and a message that contains ``words``."""
    code = sandbox.finish(command(sandbox, root))
    output = sandbox.output()
    missing = [word for word in (*words, "what to do") if word not in output]
    error = next((line for line in output.splitlines() if line.startswith("error: ")), "no message")
    good = code == 2 and not missing and "Traceback" not in output
    return Outcome(f"{error.removeprefix('error: ')}; exit code {code}{f'; missing: {missing}' if missing else ''}", nothing_lost=good)


def negative_box(sandbox: Sandbox) -> Outcome:
    """One annotation of many has a negative width."""
    root = photos(sandbox.folder / "photos", 8, {3: [[60.0, 10, -40, 60]]})
    return rejected(sandbox, root, "annotation 4 of image 3", "has a negative width", "instances_train2017.json")


def empty_file(sandbox: Sandbox) -> Outcome:
    """An empty annotation file."""
    root = photos(sandbox.folder / "photos", 8)
    (root / "annotations" / "instances_train2017.json").write_bytes(b"")
    return rejected(sandbox, root, "instances_train2017.json is not valid JSON", "0 bytes")


def nobody(sandbox: Sandbox) -> Outcome:
    """Training images without a person, in a batch of their own."""
    root = photos(sandbox.folder / "photos", 8, {index: [] for index in (0, 2, 3, 5, 6)})
    code = sandbox.finish(command(sandbox, root, "data.keep_empty=true", "optim.batch_size=1"))
    losses = [float(row["train/loss"]) for row in rows_of(sandbox.run_of("data")) if "train/loss" in row]
    return Outcome(f"{len(losses)} steps, losses {min(losses):.2f} to {max(losses):.2f}; exit code {code}", nothing_lost=code == 0)


def worker(sandbox: Sandbox, signum: signal.Signals, message: str) -> Outcome:
    """Send a signal to the data loading workers, then resume the run."""
    options = ("data.worker_timeout=5", "name=worker")
    code = sandbox.finish(sandbox.command(*options, *spoils("SignalledReader", step=5, signum=int(signum))))
    reported = message in sandbox.output() and "resume=true" in sandbox.output() and "Traceback" not in sandbox.output()
    problems = [*([] if code == 2 and reported else [f"exit code {code}, reported: {reported}"]), *sandbox.resumed("worker")]
    ended = "bit-identical" if not problems else "; ".join(problems[:3])
    return Outcome(f"{message}, exit code {code}; when resumed, it ended {ended}", nothing_lost=not problems)


def crowded(sandbox: Sandbox) -> Outcome:
    """300 boxes in one image."""
    boxes = [[float(x), y, 12, 20] for x in range(0, 116, 6) for y in range(0, 75, 5)]
    return _memory(sandbox, photos(sandbox.folder / "photos", 4, {1: boxes[:300]}), "optim.batch_size=4")


def panorama(sandbox: Sandbox) -> Outcome:
    """An image of 20,000 x 1,500 pixels."""
    return _memory(sandbox, _with_image(sandbox, (20_000, 1_500), "RGB"), "optim.batch_size=4")


def beyond_pil(sandbox: Sandbox) -> Outcome:
    """One of 20 images has 20,000 x 10,000 pixels, which PIL rejects as a possible attack."""
    return _memory(sandbox, _with_image(sandbox, (20_000, 10_000), "1", count=20), "optim.batch_size=4", message="decompression bomb")


def _with_image(sandbox: Sandbox, size: tuple[int, int], mode: str, count: int = 4) -> Path:
    """Write a data set in which image 1 is replaced by one of ``size``, with a person of the image's height."""
    root = photos(sandbox.folder / "photos", count)
    file = root / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["images"][1] |= {"width": size[0], "height": size[1], "file_name": "wide.png"}
    content["annotations"][1] = annotation(2, 1, [size[0] // 2, 0, size[1] // 2, size[1]])
    file.write_text(json.dumps(content), encoding="utf-8")
    Image.new(mode, size, 1).save(root / "train2017" / "wide.png")
    return root


def _memory(sandbox: Sandbox, root: Path, *overrides: str, message: str = "") -> Outcome:
    """Train in one process, whose memory is measured, and compare its peak with that of an ordinary run."""
    options = ("data.workers=0", *overrides)
    code = sandbox.finish(command(sandbox, root, *options))
    usual = sandbox.finish(command(sandbox, photos(sandbox.folder / "usual", 4), *options, "name=usual"))
    peaks = [max(float(row["memory/peak_rss_gb"]) for row in _all_rows(sandbox.run_of(name))) for name in ("data", "usual")]
    good = code == usual == 0 and peaks[0] < peaks[1] + MORE_MEMORY and message in sandbox.output()
    return Outcome(f"trained with {peaks[0]:.2f} GB, an ordinary run needs {peaks[1]:.2f}; exit code {code}", nothing_lost=good)


def _all_rows(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "version_0" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("memory/peak_rss_gb")]


BOUNDED = "trains within bounded memory"
KILLED: Callable[[Sandbox], Outcome] = partial(worker, signum=signal.SIGKILL, message="a data-loading worker died")
STOPPED: Callable[[Sandbox], Outcome] = partial(
    worker, signum=signal.SIGSTOP, message="the data-loading worker for the next batch is not responding"
)
FAULTS = [
    Fault("1 % of the images corrupt or missing", f"reported and replaced; {IDENTICAL}", one_percent),
    Fault("all images corrupt", "rejected with their names", all_corrupt, short=True),
    Fault("a data loading worker killed", f"reported with a remedy; {IDENTICAL}", KILLED),
    Fault("data loading workers that hang", f"reported after data.worker_timeout; {IDENTICAL}", STOPPED),
    Fault("a negative-area box", "rejected with its id", negative_box),
    Fault("images without people", "trains", nobody),
    Fault("0-byte annotation file", "rejected with its name", empty_file),
    Fault("300 people in one image", BOUNDED, crowded),
    Fault("a 20,000-pixel panorama", BOUNDED, panorama),
    Fault("a 200-megapixel image", "reported and replaced", beyond_pil),
]
