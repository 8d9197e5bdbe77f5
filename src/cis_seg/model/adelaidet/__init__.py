"""Conversion of AdelaiDet and detectron2 checkpoints to the network of this package."""
