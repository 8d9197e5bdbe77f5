"""The predictions of two checkpoints beside the ground truth, as in Figure 4 of the paper."""
