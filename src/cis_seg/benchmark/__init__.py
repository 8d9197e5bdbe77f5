"""Ours against the textbook form of the same formulas: time, peak memory, and that the numbers are equal."""
