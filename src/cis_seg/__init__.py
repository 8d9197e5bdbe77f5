"""cis_seg: instance masks of people in crowds, learned from boxes alone."""

__version__ = "0.1.0"
