"""Training a run: the LightningModule, optimiser, resuming, the run folder, and several processes."""
