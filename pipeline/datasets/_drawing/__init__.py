"""Draws the demo corpus: one moving body a clip, seen by a camera, three radars and a sensor on the wrist."""
