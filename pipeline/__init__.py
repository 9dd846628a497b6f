"""The machinery of signcache: identity, plan, cache, engine, batches. It finds stages and models by name."""

__version__ = "0.1.0"
