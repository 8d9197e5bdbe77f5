"""Images, annotations and the processes that read them: what is skipped, what is refused, and how much memory a strange image takes."""

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

from fault_cases.frame import Fault, Outcome, Place
from faulty import compared, rows_of, sends
from step_faults import spoils

HEIGHT, WIDTH = 96, 128
#: what a strange image may take beyond an ordinary run, in 10^9 bytes; because a decoded panorama of 20,000 x 1,500 is 0.09 of them
MORE_MEMORY = 0.5


def photos(root: Path, count: int, boxes: dict[int, list[list[float]]] | None = None) -> Path:
    """A COCO data set of ``count`` images to train on and three to score, a person in each; ``boxes`` are those of certain images."""
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
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def annotation(number: int, image: int, box: list[float]) -> dict[str, Any]:
    """One person in COCO's form, outlined by the box."""
    x, y, w, h = box
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": w * h, "iscrowd": 0, "segmentation": [outline]}


def command(place: Place, root: Path, *overrides: str) -> list[str]:
    """A small run on the data set in ``root``."""
    wanted = place.command("data=coco", f"data.root={root}", "name=data", *overrides)
    return [argument for argument in wanted if not argument.startswith("data.num_")]  # those of the generated crowd


def one_percent(place: Place) -> Outcome:
    """200 images, one cut short and one gone, all drawn once; and the same again, stopped and continued."""
    root = photos(place.folder / "photos", 200)
    cut, gone = root / "train2017" / "117.jpg", root / "train2017" / "031.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    gone.unlink()
    epoch = ("optim.batch_size=8", "schedule.max_steps=25", "schedule.val_every=25")
    code = place.finish(command(place, root, *epoch))
    told = [place.said().count(f"{problem}") for problem in ("117.jpg cannot be read as an image", "image 031.jpg is missing")]
    stopped = place.finish(command(place, root, *epoch, "name=stopped", *sends(13)))
    resumed = place.finish(command(place, root, *epoch, "name=stopped", "resume=true"))
    problems = [f"exit codes {code}, {stopped}, {resumed}"] if (code, stopped, resumed) != (0, 143, 0) else []
    problems += [] if told == [1, 1] else [f"named {told} times"]
    problems += [] if problems else compared(place.run_of("stopped"), place.run_of("data"))
    happened = "both named once, others in their places; stopped and continued, it ended "
    return Outcome(happened + ("bit-equal" if not problems else "; ".join(problems[:3])), nothing_lost=not problems)


def all_corrupt(place: Place) -> Outcome:
    """Every training image cut short."""
    root = photos(place.folder / "photos", 30)
    for path in (root / "train2017").iterdir():
        path.write_bytes(path.read_bytes()[:-300])
    return refused(place, root, "too many images cannot be read", "data.max_faulty")


def refused(place: Place, root: Path, *words: str) -> Outcome:
    """A run that must end with exit code 2 and a message that has ``words`` in it."""
    code = place.finish(command(place, root))
    said = place.said()
    missing = [word for word in (*words, "what to do") if word not in said]
    error = next((line for line in said.splitlines() if line.startswith("error: ")), "no message")
    good = code == 2 and not missing and "Traceback" not in said
    return Outcome(f"{error.removeprefix('error: ')}; exit code {code}{f'; not said: {missing}' if missing else ''}", nothing_lost=good)


def negative_box(place: Place) -> Outcome:
    """One annotation of many has a negative width."""
    root = photos(place.folder / "photos", 8, {3: [[60.0, 10, -40, 60]]})
    return refused(place, root, "annotation 4 of image 3", "has a negative width", "instances_train2017.json")


def empty_file(place: Place) -> Outcome:
    """An annotation file of no bytes."""
    root = photos(place.folder / "photos", 8)
    (root / "annotations" / "instances_train2017.json").write_bytes(b"")
    return refused(place, root, "instances_train2017.json is not valid JSON", "0 bytes")


def nobody(place: Place) -> Outcome:
    """Images without a person, alone in a batch and beside others, that are to be trained on."""
    root = photos(place.folder / "photos", 8, {index: [] for index in (0, 2, 3, 5, 6)})
    code = place.finish(command(place, root, "data.keep_empty=true", "optim.batch_size=1"))
    losses = [float(row["train/loss"]) for row in rows_of(place.run_of("data")) if "train/loss" in row]
    return Outcome(f"{len(losses)} steps, losses {min(losses):.2f} to {max(losses):.2f}; exit code {code}", nothing_lost=code == 0)


def reader(place: Place, signum: signal.Signals, told: str) -> Outcome:
    """A signal to the processes that read images; the run is continued without it."""
    options = ("data.worker_timeout=5", "name=reader")
    code = place.finish(place.command(*options, *spoils("SignalledReader", step=5, signum=int(signum))))
    said = told in place.said() and "resume=true" in place.said() and "Traceback" not in place.said()
    problems = [*([] if code == 2 and said else [f"exit code {code}, told: {said}"]), *place.resumed("reader")]
    ended = "bit-equal" if not problems else "; ".join(problems[:3])
    return Outcome(f"{told}, exit code {code}; continued, it ended {ended}", nothing_lost=not problems)


def crowded(place: Place) -> Outcome:
    """300 boxes in one image."""
    boxes = [[float(x), y, 12, 20] for x in range(0, 116, 6) for y in range(0, 75, 5)]
    return _memory(place, photos(place.folder / "photos", 4, {1: boxes[:300]}), "optim.batch_size=4")


def panorama(place: Place) -> Outcome:
    """An image of 20,000 x 1,500 pixels."""
    return _memory(place, _with_image(place, (20_000, 1_500), "RGB"), "optim.batch_size=4")


def beyond_pil(place: Place) -> Outcome:
    """An image of 20,000 x 10,000 pixels, which PIL takes for an attack, among 20."""
    return _memory(place, _with_image(place, (20_000, 10_000), "1", count=20), "optim.batch_size=4", told="decompression bomb")


def _with_image(place: Place, size: tuple[int, int], mode: str, count: int = 4) -> Path:
    """A data set whose image 1 is replaced by one of ``size``, with a person as high as it is."""
    root = photos(place.folder / "photos", count)
    file = root / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["images"][1] |= {"width": size[0], "height": size[1], "file_name": "wide.png"}
    content["annotations"][1] = annotation(2, 1, [size[0] // 2, 0, size[1] // 2, size[1]])
    file.write_text(json.dumps(content))
    Image.new(mode, size, 1).save(root / "train2017" / "wide.png")
    return root


def _memory(place: Place, root: Path, *overrides: str, told: str = "") -> Outcome:
    """A run that must end, in about the memory of an ordinary one; all in one process, which is then the one that is measured."""
    options = ("data.workers=0", *overrides)
    code = place.finish(command(place, root, *options))
    usual = place.finish(command(place, photos(place.folder / "usual", 4), *options, "name=usual"))
    peaks = [max(float(row["memory/peak_rss_gb"]) for row in _all_rows(place.run_of(name))) for name in ("data", "usual")]
    good = code == usual == 0 and peaks[0] < peaks[1] + MORE_MEMORY and told in place.said()
    return Outcome(f"trained in {peaks[0]:.2f} GB, an ordinary run in {peaks[1]:.2f}; exit code {code}", nothing_lost=good)


def _all_rows(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("memory/peak_rss_gb")]


BOUNDED = "trains within bounded memory"
KILLED: Callable[[Place], Outcome] = partial(reader, signum=signal.SIGKILL, told="a process that reads images was lost")
STOPPED: Callable[[Place], Outcome] = partial(reader, signum=signal.SIGSTOP, told="the process that reads the next batch does not answer")
FAULTS = [
    Fault("1 % of the images corrupt or gone", "named and replaced; continues to the same bits", one_percent),
    Fault("all images corrupt", "refused with their names", all_corrupt, short=True),
    Fault("a reader of images killed", "told with what to do; continues to the same bits", KILLED),
    Fault("readers of images that hang", "told after data.worker_timeout; continues to the same bits", STOPPED),
    Fault("a negative-area box", "refused with its id", negative_box),
    Fault("images with no person", "trains", nobody),
    Fault("0-byte annotation file", "refused with its name", empty_file),
    Fault("300 people in one image", BOUNDED, crowded),
    Fault("a 20,000-pixel panorama", BOUNDED, panorama),
    Fault("a 200-megapixel image", "named and replaced", beyond_pil),
]
