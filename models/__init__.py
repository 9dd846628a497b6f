"""One recipe per file: a model with its training settings."""
