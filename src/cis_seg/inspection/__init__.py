"""Statistics of a data set, and everything odd about it; invalid entries are listed, not refused."""
