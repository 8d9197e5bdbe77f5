"""Tables of finished runs beside the paper's: read the runs, group the seeds, write and plot."""
