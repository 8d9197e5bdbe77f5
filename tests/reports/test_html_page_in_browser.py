"""The HTML page in headless Chromium: sizes and colours as displayed, and no console messages."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cis_seg.reports.html_parts import COLORS, DARK_COLORS
from finished_runs import write_run

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "report.py"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: no network, no prompts; no sandbox, because CI runs as root
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--log-level=0"),
)
WIDTH, HEIGHT = 1300, 1000  # px
EXPERIMENTS = 9  # two more than there are colours

#: script that measures the page and appends the result to it, for --dump-dom
PROBE = """
<script>
const size = e => { const r = e.getBoundingClientRect(); return [r.width, r.height]; };
const all = (selector, of) => [...document.querySelectorAll(selector)].map(of);
const look = e => { const s = getComputedStyle(e); return [s.color, s.strokeDasharray]; };
const visible = () => all('.charts polyline', e => e.getClientRects().length > 0).filter(v => v).length;
addEventListener('load', () => {
  const found = {
    svg: all('.charts svg', size), lines: all('.charts polyline', e => e.getTotalLength()), tables: all('table', size),
    images: all('img', e => [...size(e), e.naturalWidth]), swatches: all('.legend label', look),
    legend: all('.legend line', size), overflow: document.documentElement.scrollWidth - innerWidth, before: visible(),
  };
  document.querySelector('#show0').click();
  found.without_first = visible();
  document.querySelector('figure label').click();
  found.enlarged = size(document.querySelector('img'));
  const pre = document.createElement('pre');
  pre.id = 'probe'; pre.textContent = JSON.stringify(found); document.body.append(pre);
});
</script>
"""


@dataclass(frozen=True)
class Seen:
    """Output of the browser: the page after its scripts ran, and the log."""

    text: str
    log: str

    @property
    def messages(self) -> list[str]:
        return [line for line in self.log.splitlines() if ":CONSOLE" in line]


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., Seen]:
    """Open a file in a new browser, with additional options."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)}")

    def browse(page: Path, *options: str, width: int = WIDTH) -> Seen:
        profile = tmp_path / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        fixed = (*OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{HEIGHT}")
        done = subprocess.run([browser, *fixed, *options, page.as_uri()], check=True, capture_output=True, text=True, timeout=300)
        return Seen(done.stdout, done.stderr)

    return browse


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of nine experiments, each with a log and overlays, written by the script."""
    folder = tmp_path_factory.mktemp("page")
    for number in range(EXPERIMENTS):
        run = write_run(
            folder / "runs", f"experiment_with_a_long_name_{number}", 0, ap=10.0 + number, area="mask" if number else "published"
        )
        (run / "csv" / "version_0").mkdir(parents=True)
        rows = [f"{step},{1 / (step + 1 + number)},{step if step % 20 == 0 else ''}" for step in range(41)]
        (run / "csv" / "version_0" / "metrics.csv").write_text("\n".join(["step,train/loss,val/segm_AP", *rows, ""]))
        (run / "overlays").mkdir()
        Image.new("RGB", (1900, 300), (200, 30 * number, 90)).save(run / "overlays" / "latest.png")
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main([str(folder / "runs"), "--output", str(folder / "report.html")]) == 0
    return folder / "report.html"


def measured(browse: Callable[..., Seen], page: Path, folder: Path, width: int = WIDTH) -> dict[str, Any]:
    """Return the measurements of a copy of ``page`` that contains the probe."""
    copy = folder / "probed.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    seen = browse(copy, "--dump-dom", width=width)
    assert seen.messages == []
    found = re.search(r'<pre id="probe">(.*?)</pre>', seen.text, re.DOTALL)
    assert found is not None, seen.log
    content: dict[str, Any] = json.loads(unescape(found[1]))
    return content


def test_everything_is_displayed(browse: Callable[..., Seen], page: Path, tmp_path: Path) -> None:
    found = measured(browse, page, tmp_path)
    assert len(found["svg"]) == 2
    assert all(width > 300 and height > 150 for width, height in found["svg"])
    assert len(found["lines"]) == 2 * EXPERIMENTS
    assert min(found["lines"]) > 100
    assert len(found["tables"]) == 5  # of runs and of AP by crowding, by the two protocols; of what differs
    assert all(width > 200 and height > 50 for width, height in found["tables"])
    assert [natural for *_, natural in found["images"]] == [1900] * EXPERIMENTS
    assert all(300 < width < WIDTH and height > 50 for width, height, _ in found["images"])
    assert len(found["legend"]) == EXPERIMENTS
    assert all(width > 20 for width, _ in found["legend"])
    assert found["overflow"] <= 0, "the page itself must not scroll sideways"


def test_each_experiment_has_a_distinct_line(browse: Callable[..., Seen], page: Path, tmp_path: Path) -> None:
    found = measured(browse, page, tmp_path)
    assert len({tuple(look) for look in found["swatches"]}) == EXPERIMENTS
    assert len({color for color, _ in found["swatches"]}) == len(COLORS)


def test_checkboxes_hide_lines_and_a_click_enlarges_pictures(browse: Callable[..., Seen], page: Path, tmp_path: Path) -> None:
    found = measured(browse, page, tmp_path)
    assert (found["before"], found["without_first"]) == (2 * EXPERIMENTS, 2 * EXPERIMENTS - 2)
    assert found["enlarged"] == [1900, 300]


def test_on_a_narrow_screen(browse: Callable[..., Seen], page: Path, tmp_path: Path) -> None:
    assert measured(browse, page, tmp_path, width=520)["overflow"] <= 0


@pytest.mark.parametrize(("scheme", "background", "colors"), [(1, (255, 255, 255), COLORS), (0, (18, 18, 18), DARK_COLORS)])
def test_colours_are_rendered(
    scheme: int, background: tuple[int, ...], colors: tuple[str, ...], browse: Callable[..., Seen], page: Path, tmp_path: Path
) -> None:
    shot = tmp_path / "shot.png"
    seen = browse(page, f"--screenshot={shot}", f"--blink-settings=preferredColorScheme={scheme}")
    assert seen.messages == []
    with Image.open(shot) as image:
        assert image.size == (WIDTH, HEIGHT)
        painted = {color for _, color in image.convert("RGB").getcolors(1 << 24) or []}
        assert image.convert("RGB").getpixel((3, 3)) == background
    assert {tuple(bytes.fromhex(color[1:])) for color in colors} <= painted


def test_console_messages_are_detected(browse: Callable[..., Seen], tmp_path: Path) -> None:
    (tmp_path / "wrong.html").write_text("<!DOCTYPE html><title>x</title><script>nothing.there</script>")
    seen = browse(tmp_path / "wrong.html", "--dump-dom")
    assert len(seen.messages) == 1
    assert "nothing is not defined" in seen.messages[0]
