"""What makes a sentence of glosses, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.spotting.sentences import rules

RULES = "rules"


class Writer(Protocol):
    """English of glosses; `context` are words that are known besides, such as what a patient points at."""

    def sentence(self, glosses: Sequence[str], context: Sequence[str] = ()) -> str: ...


def writer(name: str, device: str) -> Writer:
    """`rules`, or the language model in a folder or of a name in the local hub cache. Raises UserError where there is none."""
    if name == RULES:
        return rules.Rules()
    from pipeline.spotting.sentences.language_model import LanguageModel

    return LanguageModel(name, device)
