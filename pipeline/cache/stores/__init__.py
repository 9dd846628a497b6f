"""One file format per file: how the rows of a shard are written and mapped back."""
