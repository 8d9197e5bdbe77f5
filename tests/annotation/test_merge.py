"""What annotators send back: everybody found again, every rule kept or named, nothing written by halves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as coco_mask

from annotation_job import NAMES, PEOPLE, REGION, rectangle
from cis_seg.annotation.exports import read_export
from cis_seg.annotation.job import Job, read_dropped, read_job
from cis_seg.annotation.merging import Merged, data_card, merge
from cis_seg.annotation.problems import ACCEPTABLE, KINDS
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.rle import box_mask
from cis_seg.commands import annotations
from cis_seg.errors import DataError
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import find_oddities

Content = dict[str, Any]
Write = Callable[..., Path]


def merged(job: Job, *exports: Path, dropped: dict[int, str] | None = None) -> Merged:
    return merge(job, [read_export(path, job) for path in exports], dropped or {})


def kinds(found: Merged) -> list[tuple[str, tuple[int, ...]]]:
    return [(problem.kind, problem.ids) for problem in found.problems]


def test_people_are_matched_for_every_tools_file_names(job: Job, export_content: Content, write_export: Write, tmp_path: Path) -> None:
    found = merged(job, write_export(export_content))
    assert found.problems == []
    assert found.content["images"] == [{"id": i, "width": 80, "height": 60, "file_name": name} for i, name in enumerate(NAMES, start=1)]
    assert found.content["categories"] == [{"id": 1, "name": "person", "supercategory": "person"}]
    tight = [[x + 1, y + 1, w - 2, h - 2] for x, y, w, h in PEOPLE.values()]
    rows = [(a["id"], a["image_id"], a["category_id"], a["iscrowd"], a["bbox"], a["area"]) for a in found.content["annotations"]]
    assert rows == [
        (1, 1, 1, 0, tight[0], 18 * 38),
        (2, 1, 1, 0, tight[1], 18 * 38),
        (3, 1, 1, 0, tight[2], 18 * 48),
        (4, 1, 1, 1, REGION, 400),  # the job's region, as a run-length code
        (5, 2, 1, 0, tight[3], 28 * 48),
        (6, 2, 1, 0, tight[4], 28 * 38),
    ]
    assert found.content["annotations"][0]["segmentation"] == [rectangle(*tight[0])]  # as the tool has it
    path = write_export(found.content, "merged.json")
    contents = read_contents(path, tmp_path)
    find_oddities(contents, pixels=False)
    assert contents.oddities == []
    truth = GroundTruth(path)
    assert (len(truth.annotations), truth.maskless, truth.arealess) == (6, set(), [])


def test_several_exports_share_the_images(job: Job, export_content: Content, write_export: Write) -> None:
    """Each lists every image, and has outlines in its own."""
    halves = [[a for a in export_content["annotations"] if a["image_id"] == image_id] for image_id in (0, 1)]
    paths = [write_export({**export_content, "annotations": half}, f"{place}.json") for place, half in enumerate(halves)]
    assert merged(job, *paths).content == merged(job, write_export(export_content)).content
    twice = merged(job, *paths, write_export(export_content, "both.json"))
    assert kinds(twice) == [("image_twice", ()), ("image_twice", ())]


def test_brush_masks_that_the_tool_marks_as_crowds_are_people(job: Job, export_content: Content, write_export: Write) -> None:
    """And the job's region is none, whether it comes back as it was or as an ordinary polygon."""
    first = export_content["annotations"][0]
    first["segmentation"] = plain(coco_mask.frPyObjects([rectangle(11, 11, 18, 38)], 60, 80)[0])
    first["iscrowd"] = 1
    export_content["annotations"] += [
        {**first, "id": 50, "image_id": 1, "bbox": REGION, "segmentation": plain(box_mask(REGION, (60, 80)))},
        {**first, "id": 51, "image_id": 1, "bbox": REGION, "segmentation": [rectangle(*REGION)], "iscrowd": 0},
    ]
    path = write_export(export_content)
    found = merged(job, path)
    assert found.problems == []
    assert read_export(path, job).unflagged == 1
    assert [a["iscrowd"] for a in found.content["annotations"]] == [0, 0, 0, 1, 0, 0]
    assert found.content["annotations"][0]["area"] == 18 * 38


def plain(rle: dict[str, Any]) -> dict[str, Any]:
    return {"size": [60, 80], "counts": rle["counts"].decode()}


def change(number: int, **changes: Any) -> Callable[[Content], None]:
    return lambda content: content["annotations"][number].update(changes)


def add(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content["annotations"].append({**content["annotations"][0], "id": 99, **changes})


def image(number: int, **changes: Any) -> Callable[[Content], None]:
    return lambda content: content["images"][number].update(changes)


#: what is wrong with an export -> the problems named, with the ids in the file they speak of
WRONG: dict[str, tuple[Callable[[Content], Any], list[tuple[str, tuple[int, ...]]]]] = {
    "an id twice": (add(id=0, segmentation=[]), [("unusable", (0,))]),
    "no box": (change(0, bbox=None), [("unusable", (0,)), ("missing", (1,))]),
    "a box without width": (change(0, bbox=[1, 1, 0, 5]), [("box_without_area", (0,)), ("missing", (1,))]),
    "a box of another person": (change(0, bbox=[50, 5, 20, 50]), [("box_off_mask", (0,))]),
    "letters": (change(0, segmentation=[["a"] * 8]), [("unusable", (0,)), ("missing", (1,))]),
    "no mask": (change(0, segmentation=[]), [("no_mask", (0,)), ("missing", (1,))]),
    "an empty mask": (change(0, segmentation={"size": [60, 80], "counts": [4800]}), [("empty_mask", (0,)), ("missing", (1,))]),
    "another size": (change(0, segmentation={"size": [80, 60], "counts": [0, 4800]}), [("unusable", (0,)), ("missing", (1,))]),
    "two points": (change(0, segmentation=[rectangle(11, 11, 18, 38), [5, 5, 6, 6]]), [("degenerate_part", (0,))]),
    "beyond the image": (change(0, segmentation=[rectangle(-2, 11, 31, 38)]), [("polygon_outside", (0,)), ("missing", (1,))]),
    "a mask of half the person": (
        change(0, segmentation=[rectangle(11, 11, 18, 15)], bbox=[11, 11, 18, 15]), [("box_off_mask", (0,))],
    ),
    "somebody forgotten": (lambda content: content["annotations"].pop(1), [("missing", (2,))]),
    "an image forgotten": (
        lambda content: content.update(annotations=content["annotations"][:3]), [("missing", (5, 6))],
    ),
    "somebody twice": (add(segmentation=[rectangle(11, 11, 18, 37)]), [("duplicate", (0, 99)), ("unlisted", (99,))]),
    "somebody new": (add(segmentation=[rectangle(70, 1, 9, 9)], bbox=[70, 1, 9, 9]), [("unlisted", (99,))]),
    "an unknown image": (image(0, file_name="other.jpg"), [("unknown_image", ()), ("missing", (5, 6))]),
    "a resized image": (image(0, height=120, width=160), [("other_size", ()), ("missing", (5, 6))]),
    "an image listed twice": (
        image(1, file_name=NAMES[1]), [("image_twice", ()), ("missing", (1, 2, 3))],
    ),
    "another category": (
        lambda content: content["categories"][0].update(name="dog"),
        [*(("other_category", (number,)) for number in range(5)), ("missing", (1, 2, 3)), ("missing", (5, 6))],
    ),
    "an unknown category": (change(0, category_id=5), [("unusable", (0,)), ("missing", (1,))]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_every_rule_is_named(job: Job, export_content: Content, write_export: Write, name: str) -> None:
    spoil, expected = WRONG[name]
    spoil(export_content)
    assert kinds(merged(job, write_export(export_content))) == expected


def test_every_rule_has_a_case() -> None:
    tried = {kind for _, expected in WRONG.values() for kind, _ in expected}
    assert tried | {"dropped_but_outlined"} == set(KINDS)


def test_point_slightly_outside_is_clipped(job: Job, export_content: Content, write_export: Write) -> None:
    export_content["annotations"][3]["segmentation"] = [rectangle(-0.5, 5, 34, 50)]
    path = write_export(export_content)
    assert read_export(path, job).moved == 1
    found = merged(job, path)
    assert found.problems == []
    assert found.content["annotations"][4]["segmentation"] == [[0, 5, 33.5, 5, 33.5, 55, 0, 55]]


def test_dropped_people_are_left_out(job: Job, export_content: Content, write_export: Write) -> None:
    export_content["annotations"] = export_content["annotations"][:2]
    found = merged(job, write_export(export_content), dropped={3: "a statue", 5: "too dark", 6: "too dark"})
    assert found.problems == []
    assert (found.people, found.empty_images) == (2, [NAMES[1]])
    assert [image["file_name"] for image in found.content["images"]] == [NAMES[0]]


def test_person_both_dropped_and_outlined_is_a_problem(job: Job, export_content: Content, write_export: Write) -> None:
    found = merged(job, write_export(export_content), dropped={2: "a mirror"})
    assert kinds(found) == [("dropped_but_outlined", (2,))]


def test_masks_that_are_still_the_draft_are_counted(job: Job, export_content: Content, write_export: Write) -> None:
    content = json.loads(job.path.read_text())
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [rectangle(x + 1, y + 1, w - 2, h - 2 if annotation["id"] < 3 else h)]
    found = merged(read_job(write_export(content, "drafted.json")), write_export(export_content))
    assert (found.problems, found.drafted, found.unchanged) == ([], 5, 2)
    export = read_export(write_export(export_content), job)
    card = data_card(write_export(found.content, "merged.json"), found, job, [export])
    assert "5 people had a model's mask as a draft; 2 masks are still that draft: they favour a similar model" in card


def run(job: Job, *arguments: object) -> int:
    code: int = annotations.merge_annotations(
        [str(job.path), *map(str, arguments), "--output", str(job.path.parent / "out" / "MERGED.json")]
    )
    return code


def test_the_command_writes_the_file_and_its_card(
    job: Job, export_content: Content, write_export: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_content["annotations"].pop(2)
    (tmp_path / "dropped.txt").write_text("# looked at twice\n\n3 a reflection | in a window\n")
    path = write_export(export_content)
    assert run(job, path, "--dropped", tmp_path / "dropped.txt") == 0
    assert "2 images, 4 people, 1 dropped" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "MERGED.json").read_text())
    assert content == merged(job, path, dropped={3: ""}).content
    card = (tmp_path / "out" / "MERGED.md").read_text()
    assert "2 images, 4 people with masks, 1 ignore regions" in card
    assert f"| 3 | {NAMES[0]} | a reflection / in a window |" in card
    assert "made for a test" in card
    assert "masks: 4" in card
    assert "accepted" not in card
    assert "to start from" not in card
    assert str(tmp_path) not in card


def test_rejected_problems_are_listed_and_accepted_ones_are_in_the_card(
    job: Job, export_content: Content, write_export: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(segmentation=[rectangle(11, 11, 18, 37)])(export_content)
    path = write_export(export_content)
    assert run(job, path) == annotations.EXIT_REFUSED
    text = capsys.readouterr().err
    assert f"export.json, annotations 0/99 of images/{NAMES[0]}: mask IoU 0.97" in text
    assert "2 problems" in text
    assert not (tmp_path / "out" / "MERGED.json").exists()
    assert "unlisted" in (tmp_path / "out" / "MERGED.problems.txt").read_text()
    assert run(job, path, "--accept", "duplicate") == annotations.EXIT_REFUSED
    assert run(job, path, "--accept", "duplicate", "unlisted") == 0
    assert len(json.loads((tmp_path / "out" / "MERGED.json").read_text())["annotations"]) == 7
    card = (tmp_path / "out" / "MERGED.md").read_text()
    assert "## Checked, except for the accepted problems" in card
    assert "annotations 0/99" in card
    assert not (tmp_path / "out" / "MERGED.problems.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["FOLDER/nothing.json"], "the annotation file does not exist"),
        (["FOLDER/text.json"], "is not valid JSON"),
        (["FOLDER/results.json"], "is not a COCO instances file"),
        (["FOLDER/export.json", "--accept", "missing"], f"expected: {' or '.join(ACCEPTABLE)}"),
        (["FOLDER/export.json", "--dropped", "FOLDER/nothing.txt"], "the list of dropped people cannot be read"),
        (["FOLDER/export.json", "--dropped", "FOLDER/dropped.txt"], "is invalid"),
        (["FOLDER/export.json", "--output", "FOLDER/export.json"], "the output cannot be written there"),
    ],
)
def test_user_errors(
    job: Job,
    export_content: Content,
    write_export: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    write_export(export_content)
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "dropped.txt").write_text("1 too dark\n4 a region, nobody\n")
    code = annotations.merge_annotations(
        [str(job.path), "--output", f"{tmp_path}/m.json", *(word.replace("FOLDER", str(tmp_path)) for word in arguments)]
    )
    assert code == 2
    assert said in capsys.readouterr().err
    assert json.loads((tmp_path / "export.json").read_text()) == export_content
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize("line", ["1", "99 who", "one too dark", "1 twice\n1 twice", "4 a region", "-1 x", "²3 x"])
def test_invalid_lines_of_dropped_people(job: Job, tmp_path: Path, line: str) -> None:
    (tmp_path / "dropped.txt").write_text(line)
    with pytest.raises(DataError, match="is invalid"):
        read_dropped(tmp_path / "dropped.txt", job)
