"""The cache seen from outside: one clip, the health of features, files for other programs, the state of this machine."""
