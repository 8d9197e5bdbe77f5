"""Which location learns which person: pure geometry, no gradients."""
