"""Lightning callbacks of a training run: logs, overlays, checkpoints, and the check for non-finite steps."""
