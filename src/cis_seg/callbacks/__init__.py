"""Lightning callbacks: overlays, progress bar, run card."""
