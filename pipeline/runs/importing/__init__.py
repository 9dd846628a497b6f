"""Trained models of other programs as runs.

In: a checkpoint that the programs of a model's source left. Out: a finished run, which labels clips, and is scored where it can be.
"""

from pipeline.runs.importing.run import import_run as import_run
