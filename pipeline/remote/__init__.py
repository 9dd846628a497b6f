"""A team's shared features: pushed by who holds the key, found by identity and content under any name, tried before they are trusted.

In: finished shards of a stage, a place for objects. Out: signed shards there, and shards of another checkout in this cache.
"""
