"""Draws the demo corpus: one moving body a clip, seen by a camera, three radars and a sensor on the wrist.

In: a gloss, a signer and a repetition. Out: the files of that clip.
"""
