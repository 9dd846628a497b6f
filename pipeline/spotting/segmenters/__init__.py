"""Ways to cut a long video into signs before any is recognised, a file each; its last line is `segmenter: type[Segmenter] = ...`.

In: the frames of a video. Out: `(first, stop)` of each sign.
"""
