"""One corpus per file: how its clips, labels, splits and signers are read from disk.

In: a root. Out: its samples, and the settings of stages and models that suit it.
"""
