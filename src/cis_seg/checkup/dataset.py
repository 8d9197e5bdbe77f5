"""The data: annotation files that parse, image files that are there, images that open."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from cis_seg.build import crowd_spec
from cis_seg.checkup.finding import Line, ok, problem, warning
from cis_seg.checkup.subject import Subject
from cis_seg.config import CrowdData
from cis_seg.data.records import InstanceDataset

#: because a network file system answers for some hundred files a second, and nobody waits minutes for a doctor
LOOKED_FOR = 2000
OPENED = 8


def check_data(subject: Subject) -> Iterator[Line]:
    """Both sets: what they hold, a sample of their files, some of their images."""
    if subject.to_be_drawn:
        assert isinstance(subject.typed.data, CrowdData)
        spec = crowd_spec(subject.typed.data)
        yield ok(f"a crowd of {spec.train_images} + {spec.val_images} images, drawn into {subject.typed.data.root} when the run starts")
        return
    start = time.perf_counter()
    data = subject.data
    seconds = time.perf_counter() - start
    names, more = ", ".join(data.class_names[:5]), " ..." if len(data.class_names) > 5 else ""
    yield ok(f"annotations read in {seconds:.1f} s; classes: {names}{more}")
    for part, dataset in {"training": data.train_dataset, "scored": data.val_dataset}.items():
        yield from _check_set(part, dataset, subject.typed.data.max_faulty)


def _check_set(part: str, dataset: InstanceDataset, max_faulty: float) -> Iterator[Line]:
    people = len(dataset.records.labels)
    text = f"{part}: {len(dataset)} images, {people} annotations in {dataset.source}"
    places = spread(len(dataset), LOOKED_FOR)
    missing = [path for place in places if not (path := dataset.path(place)).is_file()]
    if missing:
        found = f"{text}; {len(missing)} of {len(places)} image files looked for are missing, {missing[0]} for one"
        remedy = "complete the download, or set data.images or data.val_images to the folder that the file names are relative to"
        # a scored image must be there; in training up to max_faulty others take the places
        yield (warning if part == "training" and len(missing) <= max_faulty * len(places) else problem)(found, remedy)
        return
    start = time.perf_counter()
    sides = [dataset.sample(place).original_size for place in spread(len(dataset), OPENED)]
    each = (time.perf_counter() - start) / len(sides)
    heights, widths = zip(*sides, strict=True)
    size = f"{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)} pixels"
    yield ok(f"{text}; {len(sides)} opened, {1000 * each:.0f} ms each, {size}")


def spread(count: int, most: int) -> Sequence[int]:
    """At most ``most`` places of 0 .. count - 1, evenly, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))
