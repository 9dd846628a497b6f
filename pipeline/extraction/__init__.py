"""Stage one: what is to be done and why, and doing it.

In: a manifest and configured stages. Out: shards and markers in the cache, published in one step; progress, log and estimates.
"""
