"""The HTML page: well-formed, self-contained, escaped, and faithful to the files of the runs."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from cis_seg.errors import DataError
from cis_seg.reports.html_page import ABSENT, differences, to_html
from cis_seg.reports.html_parts import COLORS, Line, chart, dashes, read_curves, style, thinned, ticks
from finished_runs import write_run

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "report.py"
main = runpy.run_path(str(SCRIPT))["main"]
VOID = {"meta", "img", "input", "br", "link"}


class Reader(HTMLParser):
    """Collects tags, links and ids; fails if a tag is closed in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: Counter[str] = Counter()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data", "poster")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open = self.open if tag in VOID else self.open[:-1]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def write_log(run: Path, rows: str, version: int = 0) -> None:
    folder = run / "csv" / f"version_{version}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(rows)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A control and OverlapLoss with two seeds each; one of the four runs has no log, one has overlays."""
    folder = tmp_path / "runs"
    for seed in (0, 1):
        control = write_run(folder, "x_finetune", seed, ap=10.0)
        ours = write_run(folder, "x_finetune_overlap", seed, ap=12.0 + seed, weight=2.0)
        write_log(control, "epoch,step,train/loss,val/segm_AP\n0,19,2.5,\n0,39,1.5,\n,49,,8.25\n")
        if seed == 0:
            write_log(ours, "epoch,step,train/loss,train/loss_overlap\n0,19,2.75,0.5\n0,39,1.25,0.125\n")
    (folder / "x_finetune" / "seed0" / "overlays").mkdir()
    Image.new("RGB", (60, 30), "red").save(folder / "x_finetune" / "seed0" / "overlays" / "latest.png")
    return folder


@pytest.fixture
def text(runs: Path, tmp_path: Path) -> str:
    figure = tmp_path / "figure4.png"
    Image.new("RGBA", (40, 20), "blue").save(figure)
    assert main([str(runs), "--output", str(tmp_path / "out" / "report.html"), "--figure", str(figure)]) == 0
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_page_is_well_formed_and_self_contained(text: str) -> None:
    page = Reader(text)
    assert page.open == []
    assert [page.count[tag] for tag in ("html", "head", "body", "script", "link", "iframe")] == [1, 1, 1, 0, 0, 0]
    assert len(set(page.ids)) == len(page.ids)
    assert {link for link in page.links if not link.startswith("data:image/jpeg;base64,")} == {
        "#curves",
        "#tables",
        "#pictures",
        "#configs",
    }
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))


def test_page_contains_curves_tables_pictures_and_configs(text: str) -> None:
    page = Reader(text)
    assert page.count["svg"] == 3 + 2  # train/loss, train/loss_overlap, val/segm_AP; two experiments in the legend
    assert text.count("<polyline") == 3 + 1 + 2
    assert "x_finetune_overlap, seed 0, lambda 2: 0.125 at step 39" in text
    assert "x_finetune_overlap, seed 1, lambda 2 has no CSV log" in text
    assert text.count("has no CSV log") == 1
    assert "<td>gain over x_finetune</td>" in text
    assert "+2.50 ± 0.71" in text
    assert page.count["img"] == 2
    assert "<td>loss.weights.overlap</td><td>0.0</td><td>2.0</td>" in text
    assert page.count["pre"] == 4


def test_names_are_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "a<b>&c", 0)
    write_log(run, "step,train/loss_<i>\n1,2\n")
    assert main([str(run), "--output", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Reader(text).open == []
    assert "<b>&c" not in text
    assert "<i>" not in text


def test_user_errors_exit_with_2_and_a_message(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), "--output", str(tmp_path / "r.html")]) == 2
    assert "no finished run found" in capsys.readouterr().err
    assert main([str(runs), "--output", str(tmp_path / "r.html"), "--figure", str(SCRIPT)]) == 2
    assert "a picture cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_logs_of_a_resumed_run_are_merged(tmp_path: Path) -> None:
    write_log(tmp_path, "step,a\n10,1\n20,2\n", version=2)
    write_log(tmp_path, "step,a,b\n20,3\n30,nan,\n30,4,5\n", version=10)
    assert read_curves(tmp_path) == {"a": {10: 1.0, 20: 3.0, 30: 4.0}, "b": {30: 5.0}}
    assert read_curves(tmp_path / "csv") == {}


@pytest.mark.parametrize("rows", ["step,a\n1,x\n", "a\n1\n", "step,a\n,1\n"])
def test_corrupt_log_is_reported_with_its_line(rows: str, tmp_path: Path) -> None:
    write_log(tmp_path, rows)
    with pytest.raises(DataError, match=r"metrics\.csv, line 2"):
        read_curves(tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 500, [0, 100, 200, 300, 400, 500]),
        (0.013, 0.034, [0.01, 0.015, 0.02, 0.025, 0.03, 0.035]),
        (3, 3, [3, 4]),
        (0, 0, [0, 0.2]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_polyline_passes_through_its_points() -> None:
    drawn = chart("loss", [Line("run", 1, {0: 0.0, 50: 1.0, 100: 0.5})])
    match = re.search(r'points="([^"]*)"', drawn)
    assert match is not None
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in match[1].split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 > y2 > y1  # SVG counts from the top
    assert y2 - y1 == pytest.approx((y0 - y1) / 2, abs=0.11)
    assert "run: 0.5 at step 100" in drawn


def test_long_curves_are_thinned_to_means() -> None:
    points = [(step, float(step % 2)) for step in range(1000)]
    assert thinned(points, 500) == [(step, 0.5) for step in range(1, 1000, 2)]
    assert thinned(points[:3], 500) == points[:3]


def test_differences_ignore_run_folders_and_seeds() -> None:
    def config(name: str, seed: int, **loss: float) -> dict[str, object]:
        run = f"runs/{name}/seed{seed}"
        base = f"runs/base/seed{seed}/checkpoints/last.ckpt"
        return {"name": name, "seed": seed, "init_from": base, "loss": loss, "paths": {"run": run}, "files": [f"{run}/csv"]}

    found = differences(
        {"a": [config("a", 0, x=1, y=2), config("a", 1, x=1, y=2)], "b": [config("b", 0, x=1, y=3, z=4), config("b", 1, x=1, y=5, z=4)]}
    )
    assert found == {"loss.y": {"a": "2", "b": "3, 5"}, "loss.z": {"a": ABSENT, "b": "4"}}
    assert differences({"a": [config("a", 0)]}) == {}


def test_the_markdown_of_the_tables() -> None:
    html = to_html("## A <b>\n\nx\ny *z* ![i](http://host)\n\n| h | k |\n| - | -: |\n| 1 |   |\n\n- p_a_b\n- q\n")
    assert html.replace("\n", "") == (
        "<h3>A &lt;b&gt;</h3><p>xy *z* ![i](http://host)</p>"
        '<div class="wide"><table><thead><tr><th>h</th><th style="text-align:right">k</th></tr></thead>'
        '<tbody><tr><td>1</td><td style="text-align:right"></td></tr></tbody></table></div>'
        "<ul><li>p_a_b</li><li>q</li></ul>"
    )


def test_reused_colours_have_another_dash_pattern() -> None:
    looks = [(COLORS[place % len(COLORS)], dashes(place // len(COLORS))) for place in range(50)]
    assert len(set(looks)) == 50
    assert [dashes(turn) for turn in range(3)] == ["none", "8 3", "8 3 2 3"]
    assert f".c49 {{ color: {COLORS[0]}; stroke-dasharray: {dashes(7)}; }}" in style(50)


def test_redundant_curves_are_not_drawn_and_the_title_is_short(tmp_path: Path) -> None:
    for number in range(5):
        run = write_run(tmp_path / "runs", f"run{number}", 0)
        write_log(run, "step,val/score,val/segm_AP,val/bbox_AP,val/floor_box_AP50,val/a\n1,2,2,3,4,5\n")
    assert main([str(tmp_path / "runs"), "--output", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'class="title"[^>]*>([^<]*)<', text) == ["val/segm_AP", "val/bbox_AP", "val/a"]
    assert "<h1>cis_seg: run0, run1, run2 and 2 more</h1>" in text
