"""What a run sends to Weights & Biases: curves, tables, and the workspace that shows them."""
