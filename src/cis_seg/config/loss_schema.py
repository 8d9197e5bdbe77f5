"""Options of the loss terms, of the teacher and of mixed supervision: the nodes ``loss``, ``teacher`` and ``mixed`` of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from cis_seg.config.rules import MAX_SIDE, SHARE, STEPS_OR_NONE, WEIGHT, below, between, each, one_of, option


@dataclass
class LossWeights:
    """Weight of each term; 0 removes it (neither computed nor logged)."""

    cls: float = option(1.0, "focal loss of the classes", WEIGHT)
    box: float = option(1.0, "GIoU loss of the boxes", WEIGHT)
    ctr: float = option(1.0, "centerness loss", WEIGHT)
    mask: float = option(0.0, "dice loss with the masks of the annotations, for supervision=mask and supervision=mixed", WEIGHT)
    proj: float = option(1.0, "projection loss (BoxInst)", WEIGHT)
    pairwise: float = option(1.0, "pairwise colour affinity loss (BoxInst)", WEIGHT)
    overlap: float = option(0.0, "OverlapLoss, the paper's lambda", WEIGHT)
    teacher: float = option(0.0, "dice loss with the masks of a teacher, the running average of the network", WEIGHT)


@dataclass
class PairwiseConfig:
    """The colour affinity term (BoxInst, section 3.2)."""

    size: int = option(3, "side of the neighbourhood", one_of(3, 5, 7, 9))
    dilation: int = option(2, "distance of the neighbours", between(1, 64))
    color_thresh: float = option(0.3, "minimum colour similarity at which two pixels should share a label", SHARE)
    warmup_steps: int = option(10_000, "steps until the term has its full weight; 0 (as in a fine-tune): from the start", STEPS_OR_NONE)
    truncate_colors: bool = option(True, "truncate colours to integers before the conversion to Lab, as the reference does")
    bottom_margin: int = option(10, "rows at the bottom of the original image whose colours are not compared", between(0, MAX_SIDE))


@dataclass
class OverlapConfig:
    """OverlapLoss (the paper's Eq. 2); its weight, the paper's lambda, is loss.weights.overlap."""

    reduction: str = option(
        "pairs", "mean over the pairs of an image (pairs) or over its masks (masks), or the sum", one_of("pairs", "masks", "sum")
    )
    detach_selected: bool = option(False, "stop the gradient through the drawn masks")


@dataclass
class LossConfig:
    """The loss terms."""

    weights: LossWeights = field(default_factory=LossWeights)
    pairwise: PairwiseConfig = field(default_factory=PairwiseConfig)
    overlap: OverlapConfig = field(default_factory=OverlapConfig)


@dataclass
class TeacherConfig:
    """The teacher, whose masks at the ground-truth boxes are targets; the weight of its loss is loss.weights.teacher."""

    momentum: float = option(0.999, "maximum momentum of the average; after step t it is min(momentum, 1 - 1 / (t + 1))", below(0, 1))
    ramp_steps: int = option(1000, "steps until the term has its full weight; 0: from the start", STEPS_OR_NONE)
    locations: int = option(3, "number of best-fitting locations per box whose masks are averaged", between(1, 100))
    quality: str = option(
        "confidence", "weight of each mask in the loss: its confidence, or 1 for all (equal)", one_of("confidence", "equal")
    )
    targets: str = option("soft", "use probabilities (soft) or masks thresholded to 0 and 1 (hard) as targets", one_of("soft", "hard"))
    ignored: list[float] = option([0.5, 0.5], "[low,high]: pixels with a probability between these limits are ignored", each(SHARE, 2))
    contested: str = option("ignore", "pixels that the masks of several instances claim: ignore or keep", one_of("ignore", "keep"))
    refine: int = option(0, "iterations of the mean field over colours that refines the masks; 0: none", between(0, 10_000))
    colors: float = option(0.0, "weight of the colour evidence (inside the mask versus around its box) in the refinement; 0: none", WEIGHT)
    color_margin: float = option(
        2.0,
        "log ratio of a colour's frequency inside the mask to that around the box, above which the colour supports the instance",
        between(-20, 20),
    )
    color_rounds: int = option(3, "number of rounds of counting colours and refining the masks", between(1, 100))


@dataclass
class MixedConfig:
    """Which losses train an instance with supervision=mixed; the weight of the masks is loss.weights.mask.

    A mask counts as noisy if its annotation has a ``score`` below 1, as a mask from another model has.
    """

    least_score: float = option(0.75, "minimum score of a mask; an instance whose mask has less is trained by its box", SHARE)
    cut_to_box: bool = option(True, "cut noisy masks to their box")
    box_losses: str = option(
        "noisy",
        "instances that the box losses and the teacher train: those without a mask, also those with a noisy mask, or all",
        one_of("unmasked", "noisy", "all"),
    )
