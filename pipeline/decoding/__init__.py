"""From media to frames: videos, arrays, tables, series of images, and rows of the cache as the frames of derived stages.

In: the files of a clip and the frames that are wanted. Out: these frames, decoded once, in order.
"""
