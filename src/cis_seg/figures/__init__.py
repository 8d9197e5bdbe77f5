"""Two checkpoints beside the truth, as in the paper's Figure 4: what changed, which pixels two people claim, on one page."""
