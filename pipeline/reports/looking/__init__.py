"""The cache seen from outside: one clip, the health of features, the state of this machine.

In: names, stages, clips. Out: what is to be said of them, in words and pictures.
"""
