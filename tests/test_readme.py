"""Every command of the README and of the pages in docs/ that build on `make train` runs as written, in an empty folder, at a small size.

The commands of the other pages are parsed by test_recipes.py and test_distributed_page.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from adelaidet_file import small_config, small_state
from cis_seg import __main__, doctor, evaluate, predict, train
from label_folders import yolo_folder
from runs import SMALL
from small_coco import coco_folder
from tiny_model import tiny_checkpoint

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
#: the pages whose commands run, in this order, because later ones use the runs and files of earlier ones
PAGES = ["README.md"] + [
    f"docs/{name}.md"
    for name in (
        "configuration",
        "overlap_loss",
        "evaluation",
        "prediction",
        "comparing_runs",
        "dashboards",
        "your_data",
        "masks_from_your_boxes",
        "mixed_supervision",
        "fault_tolerance",
        "export",
        "reference_checkpoints",
    )
]
STEPS = ("schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2", "schedule.decay_steps=[]")
CROWD_ONLY = ("data.num_train", "data.num_val")
#: commands for the full data sets and networks of the paper's size, which have tests of their own
ELSEWHERE = (
    "data=crowdhuman",
    "data.root=CROWDHUMAN",
    "data.root=COCO",
    "checkpoint=OUT.ckpt",
    "init_from=OUT.ckpt",
    "checkpoint=CHECKPOINT",
    "image_info_test-dev2017.json",
    "model.onnx",
    "ochuman.json",
)
#: fewer of the same
FEWER = {"seed=0,1,2": "seed=0", "overlap=0,0.5,1,2,4": "overlap=0,2", "n_trials=8": "n_trials=1"}


def commands() -> list[str]:
    """The ``python`` and ``cis-seg`` commands of the code blocks and of the tables of ``PAGES``, in their order, each once."""
    found: list[str] = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        found += [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        found += re.findall(r"^\| `(.*?)` \|", text, re.MULTILINE)
    return [text for text in dict.fromkeys(found) if text.startswith(("python ", "cis-seg "))]


def small(command: str, overrides: list[str]) -> list[str]:
    """The overrides that make a command small without changing what it shows."""
    generated = not any(o in overrides for o in ("data=coco", "data=crowdhuman", "experiment=coco_mini"))
    size = [o for o in SMALL if generated or not o.startswith(CROWD_ONLY)]
    if "predict" in command or command.startswith(("cis-seg masks", "cis-seg convert")):
        return []  # the data are the user's, the sizes the checkpoint's
    if "evaluate" in command:
        return [o for o in size if o.startswith("data.")]
    return size if "debug=fast" in overrides else [*size, *STEPS]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with what the pages assume: the user's own data, a run, a results file."""
    work = tmp_path_factory.mktemp("readme")
    coco = coco_folder(work / "MINI")
    own = work / "DIR"
    shutil.copytree(coco, own)
    shutil.copytree(coco / "train2017", own / "photos")
    for name in ("train", "val"):
        shutil.copy(coco / "annotations" / f"instances_{name}2017.json", own / f"{name}.json")
    (work / "RESULTS.json").write_text('[{"image_id": 0, "category_id": 1, "bbox": [20, 10, 40, 60], "score": 0.9}]')
    (work / "crowd_root").mkdir()
    for name in ("BOXES.json", "MASKS.json"):
        shutil.copy(own / "train.json", work / name)
    yolo_folder(work / "YOLO")
    shutil.copytree(own / "photos", work / "photos")
    torch.save({"model": small_state(small_config())[1]}, work / "IN.pth")
    return work


def run(command: str, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    for many, few in FEWER.items():
        command = command.replace(many, few)
    words = shlex.split(command)
    monkeypatch.chdir(place)
    if words[0] == "cis-seg":
        monkeypatch.setattr("sys.argv", [*words, *small(command, words[2:])])
        with contextlib.suppress(SystemExit):  # as below
            __main__.main()
        return None
    if words[1] != "-m":
        drawn = [o for o in SMALL if o.startswith(CROWD_ONLY)] if "data=crowd" in words else []
        monkeypatch.setattr("sys.argv", [*words[1:], *drawn])
        with contextlib.suppress(SystemExit):  # of a code that says what went wrong; so does the text, which is looked at
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        return None
    overrides = words[3:]
    monkeypatch.setattr("sys.argv", [words[2], *overrides, *small(command, overrides)])
    if words[2] == "cis_seg.doctor":
        assert doctor.main([o for o in sys.argv[1:] if not o.startswith("hydra.")]) == 0
        return None
    return {"cis_seg.train": train, "cis_seg.evaluate": evaluate, "cis_seg.predict": predict}[words[2]].main()


def test_the_pages_have_commands() -> None:
    assert len(commands()) >= 25


@pytest.mark.slow
def test_every_command_runs(monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = re.search(r"^STAGES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert stages
    for _ in range(2):  # make train, twice
        run(f"python -m cis_seg.train -m experiment={stages[1]} resume=true", monkeypatch, place)
    for command in commands():
        if any(word in command for word in ELSEWHERE):
            continue
        run(command, monkeypatch, place)
        assert "error:" not in capsys.readouterr().err, command
    assert (place / "runs" / "mine" / "seed1" / "metrics.json").is_file()
    assert (place / "runs" / "demo_finetune_teacher" / "seed0" / "evaluate" / "crowd" / "metrics.json").is_file()
    assert "OverlapLoss" in (place / "tables" / "tables.md").read_text()
    assert (place / "OUT.ckpt").is_file()
    assert (place / "predictions" / "predictions.json").is_file()
    assert (place / "figure" / "figure4.png").is_file()
    assert "confidence" in (place / "MASKS.json").read_text()
    assert (place / "YOLO_MASKS" / "data.yaml").is_file()
    assert (place / "LABELME" / "0.json").is_file()
    assert "<svg" in (place / "report.html").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_lines_of_python_run(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "best.ckpt")
    Image.new("RGB", (200, 240), "gray").save("photo.jpg")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        if "losses[" not in block:
            exec(re.sub(r'"runs/.*?/best.ckpt"', '"best.ckpt"', block), names)
    assert Image.open("seen.png").size == (200, 240)
    assert names["found"].masks.shape[1:] == (240, 200)


def test_masks_of_two_networks_are_combined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page's lines take the other network's mask for the person who touches nobody."""
    monkeypatch.chdir(tmp_path)
    boxes = {1: [0, 0, 10, 10], 2: [5, 0, 10, 10], 3: [50, 50, 10, 10]}
    for name in ("MASKS", "SAM"):
        annotations = [{"id": number, "image_id": 0, "bbox": box, "from": name} for number, box in boxes.items()]
        Path(f"{name}.json").write_text(json.dumps({"annotations": annotations}))
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "masks_from_your_boxes.md").read_text(), re.DOTALL)
    exec(block, {})
    combined = json.loads(Path("COMBINED.json").read_text())
    assert [annotation["from"] for annotation in combined["annotations"]] == ["MASKS", "MASKS", "SAM"]


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_every_make_target_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_is_one_page() -> None:
    assert len(README.split()) <= 900


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of ``page``, as GitHub names them."""
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}


def test_links_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md")]:
        for link in re.findall(r"\]\((?!https?:)(.*?)\)", page.read_text()):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.is_file() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_the_readme_links_to_every_page() -> None:
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md")]:
        assert f"({page.relative_to(ROOT).as_posix()})" in README, page.name
