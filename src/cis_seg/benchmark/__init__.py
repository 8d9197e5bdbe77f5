"""Time and peak memory of the operations, against textbook forms of the same formulas."""
