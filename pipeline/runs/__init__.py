"""Trained results: what they read, how they are trained, folded, searched for and found again, and what they say of clips.

In: a name, a recipe, a seed. Out: run folders with all that made them, scores and predictions.
"""
