"""preparing."""
