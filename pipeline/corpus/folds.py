"""Which clips each fold holds back: every clip once, groups whole, classes spread."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.types import Sample

if TYPE_CHECKING:
    from pipeline.corpus.manifest import Manifest


def kept_together(samples: Sequence[Sample], table: Manifest) -> tuple[str, tuple[str, ...]]:
    """What folds keep together and intervals count as one, and its name for each clip of a table.

    That is the `signer` where those of the clips are known and the table has two, else what the corpus declares, else the `clip`.
    """
    signers = tuple(str(sample.signer) for sample in samples if sample.signer is not None)
    if len(signers) == len(samples) and len({sample.signer for sample in table.samples} - {None}) > 1:
        return "signer", signers
    return table.grouped_by, tuple(table.groups[sample.id] for sample in samples)


def folds_of(labels: Sequence[Hashable], groups: Sequence[str], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Positions of the clips that each fold holds back, from the seed; `count` folds or more than there are groups: a fold a group.

    Raises UserError where there is one group only, or no class has a clip for every fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, member = np.unique(np.array(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise UserError(f"folds need two groups of training clips or more, and all are of {str(names[0])!r}")
    if count >= len(names):
        return [np.flatnonzero(member == number) for number in range(len(names))]
    label, most = Counter(labels).most_common(1)[0]
    if most < count:
        raise UserError(f"{count} folds are too many: no class has more than {most} clips (the largest: {label!r}); use {most} or fewer")
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed & 0xFFFF_FFFF)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # classes smaller than the folds are common here
        found = [held for _, held in splitter.split(np.zeros(len(member)), np.unique(np.array(labels), return_inverse=True)[1], member)]
    return [held for held in found if len(held)]
