"""Which location learns which instance: pure geometry, without gradients."""
