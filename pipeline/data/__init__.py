"""data."""

from pipeline.data.table import batches as batches
