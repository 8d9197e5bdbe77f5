"""The messages users read."""

from __future__ import annotations

from cis_seg.errors import DataError


def test_message_has_a_line_for_each_known_part() -> None:
    error = DataError("width is negative", where="boxes.json", found=-3, remedy="fix it")
    assert str(error) == "width is negative\n  where: boxes.json\n  found: -3\n  what to do: fix it"
    assert (error.problem, error.found) == ("width is negative", -3)


def test_message_can_be_encoded_for_any_value() -> None:
    error = DataError("no such image", found="\ud800é")
    assert str(error).encode("utf-8").decode() == "no such image\n  found: \\ud800é"
