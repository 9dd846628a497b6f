"""Batches straight from the cache.

In: opened features of the clips of a split. Out: padded batches in the order of (seed, epoch), gathered ahead into reused buffers.
"""

from pipeline.data.batch import Batch as Batch
from pipeline.data.table import Table as Table
from pipeline.data.table import batches as batches
