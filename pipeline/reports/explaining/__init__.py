"""Why a run says of a clip what it says: which part of the body, which moment, which modality, which pixels.

In: a run or package, and a clip of its corpus or a file. Out: figures, a picture, and a page that needs nothing else.
"""
