"""The clips that a name stands for: listed, split, kept together, and told apart by what their files hold.

In: the samples of a corpus and a root. Out: manifests, splits that stay, folds, and the state of media files.
"""

from pipeline.corpus.manifest import Home as Home
from pipeline.corpus.manifest import Manifest as Manifest
