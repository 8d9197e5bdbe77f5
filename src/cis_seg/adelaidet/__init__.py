"""Reading checkpoints of AdelaiDet and detectron2: safely, name by name, to the network of this package."""
