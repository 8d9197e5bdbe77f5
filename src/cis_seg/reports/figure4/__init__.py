"""The predictions of two checkpoints beside the ground truth, as in the paper's Figure 4."""
