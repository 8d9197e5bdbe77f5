"""The checks of ``python -m cis_seg.doctor``, made before a run starts."""
