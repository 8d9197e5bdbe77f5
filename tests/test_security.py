"""Untrusted files run no code and reach nothing outside their folder; nothing is passed to a shell."""

from __future__ import annotations

import ast
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cis_seg.annotation.job import read_job
from cis_seg.checkpoints import load_file
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.results import read_results
from cis_seg.config.schema import BackboneConfig
from cis_seg.data.coco import CocoDataset
from cis_seg.data.crowdhuman import CrowdHumanDataset
from cis_seg.data.crowdhuman_coco import to_coco
from cis_seg.data.image_sizes import cache_path, image_sizes
from cis_seg.errors import CheckpointError, DataError
from cis_seg.inference.box_file import read_box_file
from cis_seg.inference.inputs import find_sources
from cis_seg.inference.writer import output_names
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import find_oddities
from cis_seg.model.build import imagenet_file, load_backbone

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])

#: calls that execute the contents of a file or a string
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load",
    "marshal.loads", "shelve.open", "joblib.load", "dill.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load",
    "torch.jit.load", "torch.package.PackageImporter", "runpy.run_path", "pandas.read_pickle", "np.fromregex",
}  # fmt: skip
#: calls that must pass weights_only=True
WEIGHTS_ONLY = {"get_state_dict", "load_state_dict_from_url", "load_from_checkpoint"}


def name_of(node: ast.expr) -> str:
    """Return the dotted name of a called expression, such as ``torch.load``."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def dangers(source: str) -> Iterator[str]:
    """Yield every call in ``source`` that could run code from a file, a string or a shell."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            bases = {name_of(base) for base in node.bases}
            methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            if "pickle.Unpickler" in bases and "find_class" not in methods:
                yield f"line {node.lineno}: an Unpickler without a find_class of its own"
        if not isinstance(node, ast.Call):
            continue
        name, given = name_of(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
        if name in FORBIDDEN:
            yield f"line {node.lineno}: {name}"
        loads = name == "torch.load" or name.rpartition(".")[2] in WEIGHTS_ONLY or "ckpt_path" in given
        if loads and not _true(given.get("weights_only")):
            yield f"line {node.lineno}: {name} without weights_only=True"
        if "shell" in given or name in ("subprocess.getoutput", "subprocess.getstatusoutput"):
            yield f"line {node.lineno}: {name} through a shell"
        if "allow_pickle" in given:
            yield f"line {node.lineno}: {name} with allow_pickle"


def _true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def test_no_program_executes_its_input() -> None:
    assert [f"{path.relative_to(ROOT)}: {found}" for path in PROGRAMS for found in dangers(path.read_text(encoding="utf-8"))] == []


def test_the_check_finds_dangerous_calls() -> None:
    lines = [
        "torch.load(p)", "torch.load(p, weights_only=False)", "weights.get_state_dict(check_hash=True)", "trainer.fit(m, ckpt_path=p)",
        "Model.load_from_checkpoint(p)", "pickle.load(f)", "np.load(p, allow_pickle=True)", "yaml.load(f)", "os.system(c)", "eval(t)",
        "subprocess.run(c, shell=True)", "class Any(pickle.Unpickler):\n    pass", "pickle.Unpickler(f).load()",
    ]  # fmt: skip
    assert [line for line in lines if not list(dangers(line))] == []


class Harmful:
    """An object whose pickle creates a folder when it is loaded unsafely."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_malicious_checkpoint_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as a checkpoint nor in the cache of torchvision's downloaded weights."""
    mark = tmp_path / "ran"
    torch.save({"state_dict": Harmful(mark)}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="could run code"):
        load_file(tmp_path / "bad.ckpt")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = imagenet_file(BackboneConfig(depth=18))
    cached.parent.mkdir(parents=True)
    torch.save(Harmful(mark), cached)
    with pytest.raises(CheckpointError, match="could run code"):
        load_backbone(torch.nn.Module(), BackboneConfig(depth=18))  # type: ignore[arg-type]
    assert not mark.exists()
    pickle.loads(pickle.dumps(Harmful(mark)))
    assert mark.exists(), "the file really is harmful"


def test_a_pickle_in_place_of_the_size_cache_is_ignored(tmp_path: Path) -> None:
    """The cache of image sizes is JSON; any other content is ignored and replaced."""
    images, mark = tmp_path / "Images", tmp_path / "ran"
    images.mkdir()
    Image.new("RGB", (4, 3)).save(images / "a.jpg")
    cache_path(images).write_bytes(pickle.dumps(Harmful(mark)))
    assert image_sizes(images, ["a.jpg"]) == {"a.jpg": (3, 4)}
    assert not mark.exists()
    assert json.loads(cache_path(images).read_text())["files"]["a.jpg"][:2] == [3, 4]


#: file names that leave the image folder on Linux or Windows
OUTSIDE = [
    "../secret.jpg",
    "a/../../secret.jpg",
    "/secret.jpg",
    "..\\secret.jpg",
    "C:\\secret.jpg",
    "C:secret.jpg",
    "\\\\host\\share\\a.jpg",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with an image folder, and an image beside it that no file name may reach."""
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "images" / "a.jpg", tmp_path / "secret.jpg", tmp_path / "images" / "..\\secret.jpg"):
        Image.new("RGB", (8, 8)).save(path, format="JPEG")
    return tmp_path


def coco(place: Path, name: object) -> Path:
    """Write a COCO json with one image called ``name``."""
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 1, 4, 4],
        "area": 16,
        "iscrowd": 0,
        "segmentation": [[1, 1, 5, 1, 5, 5]],
    }
    image = {"id": 1, "file_name": name, "height": 8, "width": 8}
    path = place / "boxes.json"
    path.write_text(json.dumps({"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "person"}]}))
    return path


def odgt(place: Path, name: str) -> Path:
    """Write a CrowdHuman file with one image called ``name``."""
    path = place / "boxes.odgt"
    box = {"tag": "person", "vbox": [1, 1, 4, 4], "fbox": [1, 1, 4, 4], "hbox": [1, 1, 2, 2]}
    path.write_text(json.dumps({"ID": name.removesuffix(".jpg"), "gtboxes": [box]}) + "\n")
    return path


READERS: dict[str, Callable[[Path, str], object]] = {
    "coco": lambda place, name: CocoDataset(coco(place, name), place / "images"),
    "crowdhuman": lambda place, name: CrowdHumanDataset(odgt(place, name), place / "images", max_faulty=0.0),
    "crowdhuman_to_coco": lambda place, name: to_coco(odgt(place, name), place / "images", max_faulty=0.0),
    "boxes": lambda place, name: read_box_file(coco(place, name), place / "images"),
    "job": lambda place, name: read_job(coco(place, name)),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_name_stays_inside_the_image_folder(place: Path, reader: str) -> None:
    for name in OUTSIDE:
        with pytest.raises(DataError, match="does not lie inside the image folder"):
            READERS[reader](place, name)
    assert READERS[reader](place, "a.jpg") is not None


def test_a_data_check_opens_no_file_outside_the_image_folder(place: Path) -> None:
    contents = read_contents(coco(place, "../secret.jpg"), place / "images")
    find_oddities(contents, pixels=True)
    assert [oddity.kind for oddity in contents.oddities] == ["bad_file_name"]


def test_a_symbolic_link_is_followed(place: Path) -> None:
    """A link is the user's own choice, not content of an annotation file: large data sets often live on another disk."""
    (place / "images" / "linked.jpg").symlink_to(place / "secret.jpg")
    assert CocoDataset(coco(place, "linked.jpg"), place / "images").sample(0).image.shape == (8, 8, 3)


def test_a_file_name_in_a_results_file_opens_nothing(place: Path) -> None:
    """It is compared with the names of the data set; one that is not there is refused."""
    truth = GroundTruth(coco(place, "a.jpg"))
    entry = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 1, 4, 4], "file_name": "../secret.jpg"}
    (place / "results.json").write_text(json.dumps([entry]))
    with pytest.raises(DataError, match="an image that the data set does not have"):
        read_results(place / "results.json", truth)
    (place / "results.json").write_text(json.dumps([entry | {"file_name": "a.jpg"}]))
    assert "file_name" not in read_results(place / "results.json", truth)[0]


@pytest.mark.parametrize("pattern", ["*.jpg", "**/*.jpg", "*/../*.jpg", "*/../../*.jpg", "*/../../*/*.jpg", "a/*.jpg"])
def test_outputs_stay_below_their_folder(tmp_path: Path, pattern: str) -> None:
    """Outputs stay inside for every path to the inputs, and an image matched twice is predicted once."""
    for folder in ("photos", "photos/a", "photos/b", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "x.jpg")
    (tmp_path / "y.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for root in ("photos", "photos/../photos", "link"):
        sources = find_sources(f"{tmp_path}/{root}/{pattern}", leave_out=tmp_path / "out")
        names = list(output_names(sources).values())
        assert sources
        assert all(source.path.is_file() for source in sources)
        assert len({source.path.resolve() for source in sources}) == len(sources) == len(set(names))
        for name in names:
            target = Path(os.path.normpath(tmp_path / "out" / f"{name}.png"))
            assert tmp_path / "out" in target.parents
            assert ".." not in Path(name).parts
