"""The machinery of signcache, in rooms; it finds stages and models by name, and never imports them.

In: a corpus and the words of a command line. Out: cached features, trained runs, and what is to be said of both.
"""

__version__ = "0.1.0"
