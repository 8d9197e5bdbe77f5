"""Device options: what no machine can run with is refused with what to write instead; the rest is left to the machine."""

from __future__ import annotations

import pytest

from cis_seg.config.devices import device_count, device_problems

WORKS = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("devices", 0, "set trainer.devices=1"),
        ("devices", -2, "set trainer.devices=1"),
        ("devices", True, "set trainer.devices=1"),
        ("devices", 1.5, "set trainer.devices=1"),
        ("devices", None, "set trainer.devices=1"),
        ("devices", [], "set trainer.devices=1"),
        ("devices", [0, 0], "set trainer.devices=1"),
        ("devices", "0,", "set 'trainer.devices=[0]'"),
        ("devices", "0,2", "set 'trainer.devices=[0,2]'"),
        ("accelerator", "cuda:0", "set trainer.accelerator=gpu 'trainer.devices=[0]'"),
        ("accelerator", "tpu", "set trainer.accelerator=auto"),
        ("strategy", "dp", "set trainer.strategy=auto"),
        ("strategy", {"_target_": "a.B"}, "set trainer.strategy=auto"),
        ("num_nodes", 0, "set trainer.num_nodes=1"),
        ("num_nodes", "two", "set trainer.num_nodes=1"),
        ("precision", "64-true", "set trainer.precision=32-true"),
        ("precision", "16-true", "set trainer.precision=16-mixed"),
        ("precision", "bf16-true", "set trainer.precision=bf16-mixed"),
        ("precision", "fp16", "set trainer.precision=16-mixed"),
    ],
)
def test_message_suggests_a_valid_value(option: str, value: object, remedy: str) -> None:
    (error,) = device_problems(WORKS | {option: value})
    assert f"trainer.{option}: invalid value" in str(error)
    assert remedy in str(error)


@pytest.mark.parametrize("value", [[0], -1])
def test_device_indices_are_rejected_on_a_cpu(value: object) -> None:
    (error,) = device_problems(WORKS | {"devices": value, "accelerator": "cpu"})
    assert "set trainer.devices=1" in str(error)


@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 1), ({"devices": [1, 3]}, 2), ({"devices": -1}, 1), ({"devices": "auto"}, 1), ({"devices": "3"}, 3), ({"devices": 4}, 4)],
)
def test_other_values_are_left_to_the_machine(options: dict[str, object], count: int) -> None:
    assert list(device_problems(WORKS | options)) == []
    assert device_count((WORKS | options)["devices"]) == count


@pytest.mark.parametrize("precision", ["32", 32, 16, "16-mixed", "bf16", "bf16-mixed"])
def test_precisions_that_train(precision: object) -> None:
    assert list(device_problems(WORKS | {"precision": precision})) == []
