"""A test set as the paper made it: which images to have outlined, the job for annotators, and what they send back."""
