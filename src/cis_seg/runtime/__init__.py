"""The process and its files: atomic writes, signals, collectives."""
