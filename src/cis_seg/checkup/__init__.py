"""The checks of ``python -m cis_seg.doctor``: what a run needs, looked at before it starts."""
