"""Building a test set like the paper's: the selection of images, the job for annotators, and the merging of their exports."""
