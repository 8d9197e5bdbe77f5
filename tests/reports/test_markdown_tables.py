"""The Markdown tables: the paper's rows beside ours, all other runs by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cis_seg.evaluation.baselines import CROWD_BINS
from cis_seg.reports import paper_tables as paper
from cis_seg.reports.groups import Spread, grouped
from cis_seg.reports.markdown_tables import document, number
from cis_seg.reports.paper_tables import Row
from cis_seg.reports.runs import CROWDING, find_runs
from finished_runs import write_evaluation, write_run


def text_of(*paths: Path) -> str:
    runs, skipped = find_runs(paths)
    return document(grouped(runs), skipped)


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not re.fullmatch(r"[|:\- ]+", line)]


def test_table_1_with_the_papers_rows(tmp_path: Path) -> None:
    for seed, without, with_ in ((0, 29.0, 32.0), (1, 30.0, 34.0)):
        write_run(tmp_path, "cis_r50_fpn_finetune", seed, ap=without, degree=0.09)
        write_run(tmp_path, "cis_r50_fpn_finetune_overlap", seed, ap=with_, degree=0.05, weight=2.0)
    text = text_of(tmp_path)
    ones, zeros = ["1.00 ± 0.00"] * 4, ["+0.00 ± 0.00"] * 4
    assert rows_of(text, "Table 1: CIS, shorter side 480") == [
        ["backbone", "", "steps", "seeds", *paper.COLUMNS, "overlap degree %", "mask / box (ground truth 0.44)"],
        ["ResNet-50-FPN", "BoxInst, paper", "", "", "29.20", "64.07", "22.87", "0.01", "4.44", "37.68", "-", "-"],
        ["ResNet-50-FPN", "BoxInst, ours", "500", "2", "29.50 ± 0.71", "59.00 ± 1.41", *ones, "9.00 ± 0.00", "0.50 ± 0.00"],
        ["ResNet-50-FPN", "+ OverlapLoss, paper", "", "", "32.62", "68.26", "27.80", "0.00", "6.44", "41.55", "-", "-"],
        ["ResNet-50-FPN", "gain, paper", "", "", "+3.42", "+4.19", "+4.93", "-0.01", "+2.00", "+3.87", "-", "-"],
        [
            *("ResNet-50-FPN", "+ OverlapLoss, ours, lambda 2, pairs", "500", "2"),
            *("33.00 ± 1.41", "66.00 ± 2.83", *ones, "5.00 ± 0.00", "0.50 ± 0.00"),
        ],
        [
            *("ResNet-50-FPN", "gain over cis_r50_fpn_finetune", "500", "2"),
            *("+3.50 ± 0.71", "+7.00 ± 1.41", *zeros, "-4.00 ± 0.00", "+0.00 ± 0.00"),
        ],
    ]
    assert "Ours: CIS.json, 459 images, 3453 annotations; shorter side 480, longer at most 1333; areas: published" in text
    assert "Baselines (AP50): filled ground-truth boxes 10.25, their inscribed ellipses 23.50" in text
    assert "## Runs" not in text
    assert "has no control" not in text


def test_lines_are_a_markdown_table(tmp_path: Path) -> None:
    text = text_of(write_run(tmp_path, "x", 0)).partition("## Mask AP by crowding")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    assert re.fullmatch(r"\| -+ \| -+ \|( -+: \|)+", lines[1])


def test_table_2_beside_val2017(tmp_path: Path) -> None:
    data = {"val_annotations": "annotations/instances_val2017.json", "test_size": 800}
    base = "weights/BoxInst_R101_DCN.ckpt"
    write_run(tmp_path, "coco_r101_dcn_bifpn_finetune", 0, ap=34.0, data=data, num_images=5000, init_from=base)
    write_run(tmp_path, "coco_r101_dcn_bifpn_finetune_overlap", 0, ap=34.5, data=data, num_images=5000, init_from=base, weight=1.0)
    text = text_of(tmp_path)
    rows = rows_of(text, "Table 2: COCO, shorter side 800")
    assert [(row[0], row[1], row[4]) for row in rows[1:]] == [
        ("ResNet-DCN-101-BiFPN", "BoxInst, paper", "35.00"),
        ("ResNet-DCN-101-BiFPN", "BoxInst, ours", "34.00"),
        ("ResNet-DCN-101-BiFPN", "+ OverlapLoss, paper", "35.40"),
        ("ResNet-DCN-101-BiFPN", "gain, paper", "+0.40"),
        ("ResNet-DCN-101-BiFPN", "+ OverlapLoss, ours, lambda 1, pairs", "34.50"),
        ("ResNet-DCN-101-BiFPN", "gain over coco_r101_dcn_bifpn_finetune", "+0.50"),
    ]
    assert "Paper: test-dev2017" in text
    assert "Ours: instances_val2017.json, 5000 images" in text


def test_another_test_size_has_a_separate_table(tmp_path: Path) -> None:
    run = write_run(tmp_path, "cis_r50_fpn_finetune_overlap", 0, ap=32.0, weight=2.0)
    text = text_of(tmp_path, write_evaluation(run, "cis_680", ap=34.0, test_size=680))
    rows = rows_of(text, "Table 1: CIS, shorter side 680")
    assert [(row[1], row[4], row[5]) for row in rows[1:]] == [
        ("+ OverlapLoss, paper", "34.25", "-"),
        ("+ OverlapLoss, ours, lambda 2, pairs", "34.00", "68.00"),
    ]
    assert "cis_r50_fpn_finetune_overlap was evaluated in 2 ways" in text
    assert text.count("cis_r50_fpn_finetune_overlap (lambda 2) has no control") == 2


def test_other_runs_by_name(tmp_path: Path) -> None:
    base = f"{tmp_path}/crowd_tiny_pretrain/seed0/checkpoints/last.ckpt"
    write_run(tmp_path, "crowd_tiny_pretrain", 0, ap=35.0, steps=1500)
    write_run(tmp_path, "crowd_tiny_finetune", 0, ap=38.0)
    write_run(tmp_path, "crowd_tiny_finetune_overlap", 0, ap=41.0, weight=2.0)
    write_run(tmp_path, "crowd_tiny_ov0.5", 1, ap=40.0, weight=0.5, init_from=base)
    write_run(tmp_path, "crowd_tiny_ov0.5", 2, finished=False)
    text = text_of(tmp_path)
    rows = [row[:6] for row in rows_of(text, "Runs")]
    assert rows == [
        ["name", "reduction", "lambda", "steps", "seeds", "AP"],
        ["crowd_tiny_pretrain", "-", "0", "1500", "1", "35.00"],
        ["crowd_tiny_finetune", "-", "0", "500", "1", "38.00"],
        ["crowd_tiny_ov0.5", "pairs", "0.5", "500", "1", "40.00"],
        ["gain over crowd_tiny_finetune (of means)", "", "", "500", "-", "+2.00"],
        ["crowd_tiny_finetune_overlap", "pairs", "2", "500", "1", "41.00"],
        ["gain over crowd_tiny_finetune", "", "", "500", "1", "+3.00"],
    ]
    assert "Table" not in text
    assert f"- {tmp_path}/crowd_tiny_ov0.5/seed2 skipped: unfinished, no metrics.json" in text.splitlines()


def test_crowding_has_a_table_of_its_own(tmp_path: Path) -> None:
    for seed, (overlap, teacher) in enumerate(((38.0, 57.0), (42.0, 60.0))):
        write_run(tmp_path, "crowd_tiny_mask", seed, ap=76.0, supervision="mask", steps=1500)
        write_run(tmp_path, "crowd_tiny_finetune_overlap", seed, ap=overlap, weight=2.0)
        write_run(tmp_path, "crowd_tiny_finetune_teacher", seed, ap=teacher, weight=2.0, teacher=1.0)
    text = text_of(tmp_path)
    rows = {row[0]: row[1:] for row in rows_of(text, "Mask AP by crowding")}
    assert rows["name"] == ["steps", "seeds", "crowding none", "crowding below 0.3", "crowding 0.3 to 0.5", "crowding above 0.5"]
    assert rows["crowd_tiny_finetune_teacher"][:4] == ["500", "2", "58.50 ± 2.12", "29.25 ± 1.06"]
    assert rows["gain over crowd_tiny_finetune_overlap"][:4] == ["500", "2", "+18.50 ± 0.71", "+9.25 ± 0.35"]
    retained = [row for row in rows_of(text, "Mask AP by crowding") if row[0] == "retained of crowd_tiny_mask"]
    assert [row[3:] for row in retained] == [["0.53 ± 0.04"] * 4, ["0.77 ± 0.03"] * 4]
    assert [key for key, _ in CROWDING.values()] == [f"segm/AP/crowd_{level}" for level in CROWD_BINS]


def test_numbers() -> None:
    assert number(Spread(12.345, std=0.678, n=3), seeds=3) == "12.35 ± 0.68"
    assert number(Spread(12.345, std=0.678, n=2), seeds=3) == "12.35 ± 0.68 (of 2)"
    assert number(Spread(1.0, std=None, n=1), seeds=1, signed=True) == "+1.00"
    assert number(Spread(None, std=None, n=0), seeds=2) == "-"


def test_table_row_depends_on_lambda_not_on_the_name() -> None:
    assert paper.row_of("cis_r50_fpn_finetune_overlap", 2.0) == Row("cis", "r50_fpn", overlap=True)
    assert paper.row_of("cis_r50_fpn_finetune_overlap", 0.0) == Row("cis", "r50_fpn", overlap=False)
    assert paper.row_of("cis_r50_fpn_finetune_teacher", 2.0) == Row("cis", "r50_fpn", overlap=True)
    for name in ("cis_r50_fpn_pretrain", "cis_r101_dcn_bifpn_finetune", "crowd_tiny_finetune", "cis_r50_fpn_finetune2"):
        assert paper.row_of(name, 2.0) is None, name


def test_the_paper_has_no_metrics_for_other_sizes_and_areas() -> None:
    row = Row("cis", "r50_fpn", overlap=False)
    assert paper.metrics(row, test_size=680, area="published") == {}
    assert set(paper.metrics(row, test_size=480, area="mask")) == {"AP", "AP50", "AP75"}


def test_the_papers_numbers_equal_the_transcription(shared_data: Path) -> None:
    file = shared_data.parent / "design" / "PAPER.md"
    if not file.is_file():
        pytest.skip("needs ../shared/design, which is not part of the repository")
    titles = {title: backbone for backbone, title in paper.BACKBONES.items()}
    data, seen = "cis", 0
    for line in file.read_text(encoding="utf-8").splitlines():
        data = "coco" if line.startswith("## Table 2") else data
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for cell, overlap in zip(cells[1:], (False, True), strict=False) if cells[0] in titles else ():
            row = Row(data, titles[cells[0]], overlap)
            assert list(paper.metrics(row, test_size=paper.TEST_SIZE[data], area="published").values()) == [float(x) for x in cell.split()]
            seen += 1
    assert seen == 14
