"""Finished runs as one self-contained HTML page: curves, tables, images, and config differences."""
