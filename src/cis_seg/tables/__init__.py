"""From finished runs to the paper's tables: read them, group the seeds, set the paper's numbers beside, write and draw."""
