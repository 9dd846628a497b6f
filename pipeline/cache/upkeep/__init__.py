"""Care of the cache: what is damaged, what nobody needs, what can be packed.

In: a name, a stage, or all of the cache. Out: what was found, and a cache without it.
"""
