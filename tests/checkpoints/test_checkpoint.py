"""Reading checkpoints: which files and tensors are refused, with which messages, and what is loaded."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from cis_seg.checkpoints import CLASSIFIER, checkpoint_metadata, init_from, load_file, load_strictly, model_state
from cis_seg.errors import CheckpointError, ConfigError
from tiny_model import tiny_model

RAN: list[str] = []


class Code:
    """An object whose pickle calls a function."""

    def __reduce__(self) -> Any:
        return RAN.append, ("code from the file was run",)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as info:
        load_file(path)
    assert str(path) in str(info.value)
    return str(info.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint in the format of ``cis_seg.train``."""
    path = tmp_path / "last.ckpt"
    state = {f"model.{name}": value for name, value in nn.Linear(3, 2).state_dict().items()} | {"other.weight": torch.zeros(1)}
    torch.save({"state_dict": state, "cis_seg": {"config": {"seed": 0}}, "global_step": 7}, path)
    return path


# ---------------------------------------------------------------- files
def test_content_is_read(saved: Path) -> None:
    content = load_file(saved)
    assert content["global_step"] == 7
    assert model_state(content, saved).keys() == {"weight", "bias"}, "only the network's tensors, without the prefix"


def test_missing_file(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    message = refusal(tmp_path / "lst.ckpt")
    assert "best.ckpt, last.ckpt" in message
    assert "no .ckpt file" in refusal(tmp_path / "nowhere" / "last.ckpt")
    assert "no checkpoint" in refusal(tmp_path), "a folder"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    message = refusal(saved)
    assert f"{int(share * len(content))} bytes" in message
    assert "cut short" in message


def test_files_of_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for content in (b"hello", b'{"state_dict": {}}', b"\x89PNG\r\n\x1a\n", pickle.dumps({"a": 1}, protocol=2), b"\x80\x02."):
        path.write_bytes(content)
        assert "another format" in refusal(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_random_bytes_give_a_readable_message(tmp_path: Path) -> None:
    generator, path = random.Random(0), tmp_path / "last.ckpt"
    for _ in range(60):
        path.write_bytes(b"\x80\x02" + generator.randbytes(40))
        assert "what to do" in refusal(path)


def test_objects_are_named_and_their_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "cis_seg": Code()}, path)
    message = refusal(path)
    assert "getattr" in message
    assert "run code" in message
    assert "weights_only" not in message, "torch advises to load the file unsafely"
    torch.save({"state_dict": {}, "cis_seg": {"run": Path("a")}}, path)
    assert "pathlib" in refusal(path)
    assert RAN == []


def test_content_that_is_not_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save([torch.zeros(2)], path)
    assert "found: list" in refusal(path)


@pytest.mark.parametrize("content", [{"model": {}, "iteration": 5}, {"state_dict": {}}, {"cis_seg": {}}, {}])
def test_checkpoint_of_another_program(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "R_50.pth"
    with pytest.raises(CheckpointError, match=r"R_50\.pth was not written by cis_seg\.train") as info:
        model_state(content, path)
    assert "expected: the keys state_dict and cis_seg" in str(info.value)
    assert f"found: {', '.join(sorted(content))}" in str(info.value)


# ---------------------------------------------------------------- weights
def test_every_difference_is_listed() -> None:
    model, path = nn.Linear(3, 2), Path("some.ckpt")
    before = model.weight.clone()
    state = {"weight": torch.zeros(5, 3), "head.bias": torch.zeros(7)}
    with pytest.raises(CheckpointError) as info:
        load_strictly(model, state, path)
    message = str(info.value)
    assert "some.ckpt does not match the model: 3 tensors differ" in message
    assert "missing bias (2,)" in message
    assert "unexpected head.bias (7,)" in message
    assert "weight: expected (2, 3), found (5, 3)" in message
    assert torch.equal(model.weight, before), "nothing is loaded"


def test_a_long_list_is_shortened() -> None:
    with pytest.raises(CheckpointError, match="41 tensors differ") as info:
        load_strictly(nn.Linear(3, 2), {f"layer{i}": torch.zeros(1) for i in range(39)}, Path("some.ckpt"))
    assert str(info.value).count("unexpected") + str(info.value).count("missing") == 10


@pytest.fixture
def three_classes(tmp_path: Path) -> Path:
    """A checkpoint of the tiny network for three classes."""
    path = tmp_path / "best.ckpt"
    metadata = {"config": {"model": {}}, "class_names": ["dog", "person", "car"], "category_ids": [1, 2, 3]}
    state = {f"model.{name}": torch.randn_like(v) if v.is_floating_point() else v for name, v in tiny_model(3).state_dict().items()}
    torch.save({"state_dict": state, "cis_seg": metadata}, path)
    return path


def initialised(path: Path, model: nn.Module, *class_names: str, classifier: str = "match") -> str:
    """Initialise ``model`` from ``path`` and return what is printed."""
    text = io.StringIO()
    init_from(model, path, class_names=class_names, classifier=classifier, console=Console(file=text, width=200))
    return text.getvalue()


def rows(text: str) -> dict[str, str]:
    """Return the number of tensors in each row of the table."""
    cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if line.startswith("│")]
    return {line[1]: line[2] for line in cells if line[1]}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return model_state(load_file(path), path)


def test_init_from_the_same_classes(three_classes: Path) -> None:
    model = tiny_model(3)
    text = initialised(three_classes, model, "dog", "person", "car")
    assert str(three_classes) in text
    assert rows(text) == {"loaded": str(len(model.state_dict())), "reshaped": "0", "missing": "0", "unexpected": "0"}
    assert model.state_dict().keys() == (read := weights(three_classes)).keys()
    assert all(torch.equal(value, read[name]) for name, value in model.state_dict().items())


def test_init_from_selects_rows_by_class_name(three_classes: Path) -> None:
    model = tiny_model(1)
    text = initialised(three_classes, model, "person")
    assert rows(text)["reshaped"] == "2"
    assert "head.cls_logits.bias (3,) -> (1,): selected from 3 rows by name: person" in text
    for name in CLASSIFIER:
        assert torch.equal(model.state_dict()[name], weights(three_classes)[name][1:2])
    initialised(three_classes, two := tiny_model(3), "car", "dog", "person")
    assert torch.equal(two.head.cls_logits.bias, weights(three_classes)["head.cls_logits.bias"][[2, 0, 1]])
    with pytest.raises(CheckpointError, match="no class bicycle") as info:
        initialised(three_classes, tiny_model(2), "person", "bicycle")
    assert "init_classifier=fresh" in str(info.value)


def test_init_from_with_a_fresh_classifier(three_classes: Path) -> None:
    model = tiny_model(2)
    before = {name: model.state_dict()[name].clone() for name in CLASSIFIER}
    text = initialised(three_classes, model, "person", "bicycle", classifier="fresh")
    assert "random weights" in text
    expected = weights(three_classes) | before
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match="match or fresh"):
        initialised(three_classes, model, "person", classifier="new")


def test_init_from_another_network_is_refused_after_the_table(three_classes: Path) -> None:
    text, model = io.StringIO(), tiny_model(3, neck_channels=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    console = Console(file=text, width=200)
    with pytest.raises(CheckpointError, match=r"best\.ckpt does not match"):
        init_from(model, three_classes, class_names=["dog", "person", "car"], console=console)
    assert int(rows(text.getvalue())["reshaped"]) > 5
    assert "refused" in text.getvalue()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(CheckpointError, match="does not match"):
        init_from(tiny_model(3, mask_branch_convs=2), three_classes, class_names=["dog", "person", "car"], console=console)
    assert int(rows(text.getvalue())["missing"]) > 0, "of the second table"


def test_incomplete_metadata(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="does not describe its network"):
        checkpoint_metadata(load_file(saved), saved)
