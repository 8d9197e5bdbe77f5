"""Finished runs as one HTML page that needs no network: curves, tables, pictures, and what differs in the configs."""
