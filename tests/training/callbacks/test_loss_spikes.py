"""Which losses stand out, and how often that is said."""

from __future__ import annotations

from cis_seg.training.callbacks.bad_steps import FACTOR, LEAST, PAUSE, WINDOW, LossSpikes


def test_loss_spike_is_reported_with_its_images() -> None:
    spikes = LossSpikes()
    assert all(spikes.look(step, 1.0 + 0.5 * (step % 2), (1,)) is None for step in range(LEAST + 1))
    spikes.look(30, 1.2, (1,))
    assert spikes.look(50, FACTOR * 1.1, (7, 9)) is None, "just the factor: half of the 22 are 1, then come 1.2 and 1.5"
    warning = spikes.look(51, FACTOR * 1.2 + 0.01, (7, 9))
    assert warning is not None
    assert warning.startswith("step 51: the loss 3.61 is more than 3 times the recent median 1.2 ")
    assert warning.endswith("(images 7, 9)")


def test_first_steps_are_never_spikes() -> None:
    spikes = LossSpikes()
    assert [spikes.look(step, 10.0**step, (1,)) for step in range(LEAST)] == [None] * LEAST


def test_warnings_are_spaced_and_count_suppressed_spikes() -> None:
    spikes = LossSpikes()
    for step in range(LEAST):
        spikes.look(step, 1.0, ())
    told = [spikes.look(step, 1.0 if step % 10 else 9.0, ()) for step in range(100, 100 + PAUSE + 1)]
    assert [step for step, warning in enumerate(told) if warning] == [0, PAUSE]
    assert told[PAUSE] is not None
    assert told[PAUSE].endswith(f"; {PAUSE // 10 - 1} more since the last warning")


def test_spike_baseline_adapts_to_a_new_level() -> None:
    spikes = LossSpikes()
    for step in range(WINDOW):
        spikes.look(step, 1.0, ())
    told = [spikes.look(step, 5.0, ()) for step in range(WINDOW, 3 * WINDOW)]
    assert [step for step, warning in enumerate(told) if warning] == [0], "after half a window the median is 5"
