"""What predictions are worth: pure arithmetic on arrays."""
