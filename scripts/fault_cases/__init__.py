"""Faults that a run must survive, one module per subject; ``scripts/faults.py`` tries them all."""
