"""The generated crowd: articulated people who occlude each other, with ground-truth masks."""
