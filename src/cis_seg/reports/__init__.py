"""Reports on finished runs: tables, an HTML page, and a figure that compares two checkpoints."""
