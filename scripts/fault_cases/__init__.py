"""Faults that a run must survive, one module per subject; ``scripts/faults.py`` injects them all."""
