"""How sure a run must be: its temperature and threshold, and how often it says a sign of what is none that it knows.

In: a finished run and clips that it did not learn from. Out: thresholds.json beside its weights.
"""
