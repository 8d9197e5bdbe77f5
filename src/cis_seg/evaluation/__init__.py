"""COCO metrics, the baselines beside them, and the table of scores."""
