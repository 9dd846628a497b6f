"""Sentences without a model: forms of `be` and articles between pronouns and what they are, questions, punctuation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.spotting.glosses import words_of

BE: Mapping[str, str] = {
    "I": "am",
    "you": "are",
    "we": "are",
    "they": "are",
    "he": "is",
    "she": "is",
    "it": "is",
    "this": "is",
    "that": "is",
}
PRONOUNS: Mapping[str, str] = {"i": "I", "me": "I", **{word: word for word in BE if word != "I"}}
QUESTIONS = frozenset({"who", "what", "where", "when", "why", "how", "which"})
QUALITIES_TEXT = """
sick ill healthy well good bad heavy light high low weak strong dry wet cold hot deaf hearing hungry thirsty tired happy sad angry afraid
old young new loud quiet fast slow ready late busy free pregnant dizzy better worse
"""
PEOPLE_TEXT = """
doctor nurse patient student teacher mother father sister brother daughter son baby boy girl man woman husband wife parent friend
"""
QUALITIES, PEOPLE = frozenset(QUALITIES_TEXT.split()), frozenset(PEOPLE_TEXT.split())
PLURALS: Mapping[str, str] = {"baby": "babies", "man": "men", "woman": "women", "wife": "wives"}
EXCLAMATIONS: Mapping[str, str] = {"hello": "Hello", "thanks": "Thank you", "thank you": "Thank you", "yes": "Yes", "no": "No"}


class Rules:
    """`I SICK` -> `I am sick.`, `HELLO YOU DOCTOR` -> `Hello, you are a doctor.`, `BOOK WHERE` -> `Where book?`; the rest stays as it is.

    They know a few hundred words of English and no grammar of any sign language: a draft for who reads it.
    """

    def sentence(self, glosses: Sequence[str], context: Sequence[str] = ()) -> str:
        """Context follows in brackets. Without a gloss, nothing."""
        words = [PRONOUNS.get(word, word) for word in (words_of(gloss).lower() for gloss in glosses) if word]
        greeting = [EXCLAMATIONS[word] for word in words[:1] if word in EXCLAMATIONS]
        rest = words[len(greeting) :]
        asked = next((word for word in rest if word in QUESTIONS), "")
        if asked:
            rest = [asked, *(word for word in rest if word != asked)]
        text = ", ".join(filter(None, [*greeting, " ".join(_joined(rest))]))
        if not text:
            return ""
        known = f" ({', '.join(map(words_of, context))})" if context else ""
        return text[0].upper() + text[1:] + known + ("?" if asked else ".")


def _joined(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before in BE and (word in QUALITIES or word in PEOPLE):
            found.append(BE[before])
            found += [_article(word)] if word in PEOPLE and before not in ("we", "they") else []
        found.append(PLURALS.get(word, f"{word}s") if before in ("we", "they") and word in PEOPLE else word)
    return found


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
