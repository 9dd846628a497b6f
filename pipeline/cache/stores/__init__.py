"""One file format per file: how the rows of a shard are written and mapped back.

In: the rows of a shard. Out: a file that opens with the format's own library.
"""
