"""Sentences: glosses, and words of context, as English, by rules or by a language model that lies on this machine.

In: labels in the order of time. Out: one sentence. Nothing is fetched, and no code of a model's folder is run.
"""
