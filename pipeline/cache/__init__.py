"""cache."""

from pipeline.cache.publishing import open_stage as open_stage
