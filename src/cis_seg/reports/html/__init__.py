"""Finished runs on one HTML page that needs no network: curves, tables, images, and config differences."""
