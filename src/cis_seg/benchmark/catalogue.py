"""All rows by name, in the order of the table."""

from __future__ import annotations

from cis_seg.benchmark.pipeline_rows import PIPELINE
from cis_seg.benchmark.rows import OPERATIONS, Row
from cis_seg.benchmark.step_rows import STEPS

ROWS: dict[str, Row] = {**OPERATIONS, **STEPS, **PIPELINE}
