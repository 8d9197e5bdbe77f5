"""The generated crowd: articulated people who occlude each other, with true masks."""
