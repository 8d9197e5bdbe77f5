"""What a data set holds and what is odd about it; reads everything, refuses nothing."""
