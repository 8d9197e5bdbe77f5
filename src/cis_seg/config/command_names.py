"""The commands of ``cis-seg``: name, what it does, and what runs it. Nothing is imported here, so that listing them is instant."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One command."""

    summary: str
    target: str  # a key of ``command_schema.COMMANDS``, or the module whose ``main`` parses its arguments with argparse


ENTRIES = {
    "train": Entry("train, resume and sweep", "train"),
    "evaluate": Entry("score a checkpoint or a results file", "evaluate"),
    "predict": Entry("find instances in photos and videos", "predict"),
    "masks": Entry("predict a mask for each box of a COCO json", "masks_from_boxes"),
    "doctor": Entry("check a training run before it starts", "cis_seg.doctor"),
    "replay": Entry("recompute a step with a non-finite loss", "cis_seg.replay"),
    "check": Entry("count what a data set contains and list what is odd", "check_dataset"),
    "browse": Entry("draw training batches and the ground truth", "browse"),
    "convert": Entry("convert a checkpoint of AdelaiDet or detectron2", "cis_seg.commands.convert_adelaidet"),
    "export": Entry("export a checkpoint to ONNX", "export_onnx"),
    "tables": Entry("print the paper's tables from finished runs", "cis_seg.commands.tables"),
    "report": Entry("write an HTML page about finished runs", "cis_seg.commands.report"),
    "figure": Entry("draw two checkpoints beside the ground truth", "figure4"),
    "crowdhuman": Entry("convert a CrowdHuman split to COCO json, and back", "cis_seg.commands.crowdhuman_to_coco"),
    "select": Entry("choose images of CrowdHuman for annotation", "select_crowd_images"),
    "merge": Entry("merge annotated outlines into a test set", "cis_seg.commands.merge_annotations"),
    "submit": Entry("pack results for COCO's evaluation server", "cis_seg.commands.submit_testdev"),
    "workspace": Entry("create a W&B view of runs with and without OverlapLoss", "cis_seg.commands.wandb_workspace"),
}
