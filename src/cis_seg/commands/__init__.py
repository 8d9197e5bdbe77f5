"""What each command does once its options are known to be valid."""
