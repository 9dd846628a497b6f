"""Spotting: which signs a long video or a camera shows, and when; glosses as files, their score, and sentences of them.

In: a trained recogniser and frames in the order of time. Out: glosses in seconds, each with the probability that it was believed with.
"""
