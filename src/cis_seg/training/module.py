"""The LightningModule: training and validation of CondInst with its assignment, losses and postprocessing."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from cis_seg.assign import assign, select_mask_samples
from cis_seg.coco.ground_truth import BOX_KINDS
from cis_seg.coco.results import to_results
from cis_seg.evaluation.metrics import Curves, GroundTruth, score
from cis_seg.inference.postprocess import Postprocess
from cis_seg.losses.criterion import Criterion
from cis_seg.model.condinst import CondInst
from cis_seg.structures import Batch, DensePredictions, Instances
from cis_seg.training.metrics import EvaluationListener, EvaluationResult
from cis_seg.training.optim import as_network, as_trained, follow, momentum_after
from cis_seg.training.teacher import Teacher

log = logging.getLogger(__name__)

#: prefixes of the logged scores: of the held-out images and, with data.score_train, of the training images
SCORED_SETS = ("val", "train_set")


class CondInstModule(L.LightningModule):
    """A training step predicts, assigns targets, selects mask samples, renders their masks, and sums the weighted losses.

    Args:
        model: the network.
        criterion: the loss terms.
        postprocess: turns predictions into instances.
        optimizer: returns the optimiser of the model and its scheduler, which is stepped once per training step.
        class_names: C names, in label order.
        category_ids: COCO category id of each label, for results.
        masks_per_image: mask samples per image (AdelaiDet's ``MAX_PROPOSALS``).
        max_mask_samples: hard cap per image, however many instances it has.
        size_ranges: limits in pixels between the levels' ranges of max(ltrb).
        eval_area: ``published`` or ``mask``, see ``metrics.evaluate``.
        teacher: predicts targets with the running average of the weights; None without.
        momentum: limit of the momentum of the running average; 0: no average is kept.
        use_average: score the average, and save it as the network of a checkpoint.
        metadata: metadata with which a checkpoint can be rebuilt without its run: resolved config, class names, category ids.
    """

    def __init__(
        self,
        *,
        model: CondInst,
        criterion: Criterion,
        postprocess: Postprocess,
        optimizer: Callable[[CondInst], tuple[Optimizer, Any]],
        class_names: Sequence[str],
        category_ids: Sequence[int],
        masks_per_image: int = 64,
        max_mask_samples: int = 500,
        size_ranges: Sequence[float] = (64, 128, 256, 512),
        eval_area: str = "published",
        teacher: Teacher | None = None,
        momentum: float = 0.0,
        use_average: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.criterion, self.postprocess = model, criterion, postprocess
        self.optimizer_factory = optimizer
        self.class_names, self.category_ids = tuple(class_names), tuple(category_ids)
        self.masks_per_image, self.max_mask_samples = masks_per_image, max_mask_samples
        self.size_ranges, self.eval_area = tuple(size_ranges), eval_area
        self.teacher, self.momentum, self.use_average = teacher, momentum, use_average
        self.average = copy.deepcopy(model).requires_grad_(False) if momentum else None
        self.skipped: Tensor | float = 0.0  # 1 if the step in progress is skipped; set by BadSteps
        self.metadata = dict(metadata or {})
        self._results: list[dict[int, list[dict[str, Any]]]] = [{}, {}]
        self._ground_truths: dict[int, GroundTruth] = {}

    @property
    def network(self) -> CondInst:
        """The network that is scored."""
        return self.average if self.average is not None and self.use_average else self.model

    def predict_dense(self, batch: Batch) -> DensePredictions:
        """Return the trained network's predictions at every location for a batch of raw pixels."""
        predictions: DensePredictions = self.model(self.model.normalize(batch.pixels, batch.image_sizes))
        return predictions

    def losses(self, batch: Batch, *, step: int) -> dict[str, Tensor]:
        """Return the unweighted loss terms ``loss_*`` of ``batch`` at training step ``step`` (from 1), and the criterion's statistics."""
        return self.losses_from(self.predict_dense(batch), batch, step=step)

    def losses_from(self, dense: DensePredictions, batch: Batch, *, step: int) -> dict[str, Tensor]:
        """Return ``losses`` for predictions that are computed already."""
        assignment = assign(
            dense.locations,
            batch.targets,
            num_classes=len(self.class_names),
            padded_size=batch.padded_size,
            size_ranges=self.size_ranges,
        )
        with torch.no_grad():
            quality = dense.cls_logits.float().sigmoid().amax(dim=-1) * dense.ctr_logits.float().sigmoid()
        samples = select_mask_samples(assignment, quality, per_image=self.masks_per_image, at_most=self.max_mask_samples)
        if samples.dropped:
            ids = ", ".join(map(str, batch.image_ids))
            log.warning("images %s: %d mask samples dropped (model.max_mask_samples=%d)", ids, samples.dropped, self.max_mask_samples)
        pseudo = None if self.teacher is None or self.average is None else self.teacher(self.average, batch)
        return self.criterion(dense, assignment, samples, self.model.mask_logits(dense, samples), batch, step=step, pseudo=pseudo)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        output = self.weighted(self.losses(batch, step=self.global_step + 1))
        logged = {f"train/{name}": value for name, value in output["losses"].items()} | {"train/loss": output["loss"].detach()}
        self.log_dict(logged, batch_size=len(batch.targets), sync_dist=True, logger=False)
        return output

    def weighted(self, losses: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return ``loss``, the weighted sum of the terms in ``losses``, and ``losses`` without gradients."""
        weights = self.criterion.weights
        total = torch.stack([weights[k.removeprefix("loss_")] * v for k, v in losses.items() if k.startswith("loss_")]).sum()
        return {"loss": total, "losses": {name: value.detach() for name, value in losses.items()}}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        network = self.network
        dense: DensePredictions = network(network.normalize(batch.pixels, batch.image_sizes))
        instances = self.postprocess(network, dense, batch)
        self._keep_results(batch, instances, dataloader_idx)
        return {"batch": batch, "instances": instances}

    def _keep_results(self, batch: Batch, instances: list[Instances], dataloader_idx: int) -> None:
        for image_id, found in zip(batch.image_ids, instances, strict=True):
            self._results[dataloader_idx][image_id] = to_results(found, image_id, self.category_ids)

    def on_validation_epoch_end(self) -> None:
        """Score each set once on the results of all processes, log the main metrics, and hand the result to the callbacks."""
        metrics: dict[str, float | None] = {}
        curves: dict[str, Curves] = {}
        for index in range(len(self.trainer.datamodule.val_ground_truths)):  # type: ignore[attr-defined]
            results = _gathered(self._results[index])
            self._results[index] = {}
            if self.trainer.sanity_checking:
                continue
            found = [entry for entries in results.values() for entry in entries]
            evaluation = score(self.ground_truth(index), found, area=self.eval_area)
            scores, curves[SCORED_SETS[index]] = evaluation.metrics, evaluation.curves
            logged = {f"{SCORED_SETS[index]}/{k.replace('/', '_')}": v for k, v in scores.items() if v is not None and k in HEADLINES}
            self.log_dict(logged | _headline(scores, index), rank_zero_only=True, batch_size=1)
            metrics |= {key if index == 0 else f"train/{key}": value for key, value in scores.items()}
        if not self.trainer.sanity_checking:
            self._hand_over(EvaluationResult(self.global_step, metrics, curves))

    def _hand_over(self, result: EvaluationResult) -> None:
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EvaluationListener):
                callback.on_evaluation(result)

    def ground_truth(self, index: int) -> GroundTruth:
        """Return the ground truth of the scored set ``index``, which is read once."""
        if index not in self._ground_truths:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self._ground_truths[index] = data.ground_truth(data.val_ground_truths[index], self.class_names)
        return self._ground_truths[index]

    def configure_optimizers(self) -> Any:
        optimizer, scheduler = self.optimizer_factory(self.model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        if self.average is not None and self.global_step == 0:
            self.average.load_state_dict(self.model.state_dict())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then update the average, before any callback saves the step."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            follow(self.average, self.model, momentum_after(self.global_step + 1, self.momentum), self.skipped)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["cis_seg"] = self.metadata
        if self.use_average:
            checkpoint["state_dict"] = as_network(checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = as_trained(checkpoint["state_dict"], average=self.average is not None)


#: scores that are logged as curves during training; metrics.json contains all
HEADLINES = (
    *("segm/AP", "segm/AP50", "segm/AP75", "bbox/AP", "bbox/AP50", "overlap/mean_degree", "shape/mask_to_box"),
    *(f"crowdhuman/{name}/{kind}" for name in ("AP", "MR", "JI") for kind in BOX_KINDS),
)


def _headline(scores: Mapping[str, float | None], index: int) -> dict[str, float]:
    """Return the score that selects the best checkpoint: mask AP of the held-out images, or box AP without ground-truth masks."""
    best = scores.get("segm/AP")
    best = scores.get("bbox/AP") if best is None else best
    return {"val/score": best} if index == 0 and best is not None else {}


def _gathered(results: dict[int, list[dict[str, Any]]]) -> dict[int, list[dict[str, Any]]]:
    """Return the results of all processes; an image that two processes scored counts once."""
    if not (dist.is_available() and dist.is_initialized()):
        return results
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, results)
    merged: dict[int, list[dict[str, Any]]] = {}
    for part in parts:
        merged |= part
    return merged
