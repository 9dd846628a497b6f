"""Packages: all that labels clips in one folder or zip, without the corpus and the cache of the training.

In: a finished run, or a package from anywhere, which is not trusted. Out: a package, or what labels clips with one.
"""
