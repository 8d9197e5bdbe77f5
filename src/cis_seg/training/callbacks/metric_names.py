"""What a run logs, under which names: the only list of them, and what W&B's summary keeps of each."""

from __future__ import annotations

from collections.abc import Iterable

from cis_seg.evaluation.baselines import CROWD_BINS

#: the axis of every curve; Lightning numbers the n-th step n - 1 there, and so do we
STEP = "trainer/global_step"

LEARNING_RATE = "train/lr"
#: of all gradients before clipping; steps left out so far because they gave no number
GRADIENT_NORM, SKIPPED_STEPS = "train/grad_norm", "train/skipped_steps"
SPEED = "speed/images_per_s"
PEAK_RSS, PEAK_CUDA = "memory/peak_rss_gb", "memory/peak_cuda_gb"
#: what a loss term is called as the criterion computes it, and as it enters the sum
RAW, WEIGHTED = "train/loss_", "train_weighted/loss_"
#: precision over recall, a chart a kind of score; W&B keeps the points of a chart as the table ``<chart>_table``
CHARTS = {"segm": "pr/segm", "bbox": "pr/bbox"}
#: the table of the last validation, an image a row
RESULTS = "results"

BOX_TERMS = ("cls", "box", "ctr", "proj", "pairwise")
SIZES = ("", "50", "75", "s", "m", "l")

#: scores of the last step, as in metrics.json: what the columns of a table of runs show
FINAL = (*(f"final/segm_AP{size}" for size in SIZES), "final/overlap_mean_degree", "final/shape_mask_to_box")

#: scores of which the best of a run's validations counts
BEST_IS_MOST = (
    "val/score",
    *(f"val/{kind}_{figure}" for kind in ("segm", "bbox") for figure in (*(f"AP{size}" for size in SIZES), "AR100")),
    *(f"val/segm_AP_crowd_{level}" for level in CROWD_BINS),
)

#: what every run on a CPU logs whose truth has masks, supervised by boxes; a score that the truth cannot measure (no large people) is not
PROMISED = (
    STEP,
    "train/loss",
    *(f"{RAW}{term}" for term in BOX_TERMS),
    *(f"{WEIGHTED}{term}" for term in BOX_TERMS),
    LEARNING_RATE,
    GRADIENT_NORM,
    SKIPPED_STEPS,
    SPEED,
    PEAK_RSS,
    *BEST_IS_MOST,
    "val/overlap_mean_degree",
    "val/shape_mask_to_box",
    "val/floor_box_AP50",
    "val/floor_ellipse_AP50",
    "val/floor_mask_to_box",
    *(f"{chart}_table" for chart in CHARTS.values()),
    RESULTS,
)
#: and with OverlapLoss
PROMISED_WITH_OVERLAP = (
    f"{RAW}overlap",
    f"{WEIGHTED}overlap",
    "train/overlap_degree",
    "train/overlap_pairs",
    "train/overlap_shared",
)


def summaries(terms: Iterable[str]) -> dict[str, str]:
    """What the summary of a run keeps of a curve, by its name, where the last value is not what a reader looks for.

    Every name in full: of two patterns that fit a name W&B takes either, and Lightning has defined ``*`` already.

    Args:
        terms: the trained loss terms, as in ``loss.weights``.
    """
    least = ("train/loss", *(f"{prefix}{term}" for prefix in (RAW, WEIGHTED) for term in terms))
    return dict.fromkeys(BEST_IS_MOST, "max") | dict.fromkeys(least, "min") | {SPEED: "mean", PEAK_RSS: "max", PEAK_CUDA: "max"}
