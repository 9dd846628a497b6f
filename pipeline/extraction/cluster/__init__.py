"""The same engine on Dask workers, here or on other machines, that join and leave as they like.

In: jobs. Out: shards that the workers write, and what became of each clip: only metadata goes through the scheduler.
"""
