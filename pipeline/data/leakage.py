"""Scored clips and signers that the weights behind features have seen: a leak that no split of the corpus shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.cache.features import Features
from pipeline.cache.provenance import Origin, origins
from pipeline.cache.publishing import opened as open_published
from pipeline.cache.stage import published
from pipeline.corpus.manifest import Manifest
from pipeline.types import STAGE_PREFIX, Sample


@dataclass(frozen=True)
class Leak:
    """What the weights of one stage have seen of scored clips; `signers` of clips that they have not seen themselves."""

    features: Features
    origin: Origin
    learned: tuple[Sample, ...]
    selected: tuple[Sample, ...]
    signers: tuple[str, ...]

    @property
    def seen(self) -> tuple[Sample, ...]:
        return (*self.learned, *self.selected)

    def line(self, split: str, clips: int) -> str:
        """One line for people; `clips` are scored of this split."""
        of = f"the weights of {self.origin.stage} ({self.origin.phrase})"
        if self.seen:
            how = " and ".join(f"{word} {len(own)}" for word, own in (("learned", self.learned), ("selected on", self.selected)) if own)
            more = f", and {_count(len(self.signers), 'more signer')}" if self.signers else ""
            first = self.seen[0].id
            return f"{of} have seen {len(self.seen)} of {clips} {split} clips{more}: {how}, so the scores flatter (first: {first})"
        return (
            f"{of} learned from {_count(len(self.signers), 'signer')} of the {split} clips, so the scores say little of new signers "
            f"(first: {self.signers[0]})"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def leaks(table: Manifest, opened: Mapping[str, Features], samples: Sequence[Sample], begins: Sequence[Origin] = ()) -> list[Leak]:
    """What of these clips, by their content, and of their signers the weights behind any of the stages, or `begins`, have seen."""
    pairs = [(features, origin) for features in opened.values() for origin in (*origins(features), *begins)]
    found = [_leak(table, features, origin, samples) for features, origin in pairs if origin.story]
    return [leak for leak in found if leak.seen or leak.signers]


def _leak(table: Manifest, features: Features, origin: Origin, samples: Sequence[Sample]) -> Leak:
    seen, contents = origin.seen, _contents(features)
    how = {sample.id: seen.get(contents.get(sample.id, "")) for sample in samples}
    learned, selected = (tuple(sample for sample in samples if how[sample.id] == split) for split in ("train", "val"))
    known = origin.signers(table.name, table.binding.corpus)
    others = {str(sample.signer) for sample in samples if sample.signer in known and how[sample.id] is None}
    return Leak(features, origin, learned, selected, tuple(sorted(others)))


def _contents(features: Features) -> dict[str, str]:
    """`{clip: hash}` of the media that features go back to."""
    source = str(features.said.identity["fields"]["source"])
    while source.startswith(STAGE_PREFIX):
        name = source.removeprefix(STAGE_PREFIX)
        if published(features.home, features.dataset, name) is None:
            return {}
        features = open_published(features.home, features.dataset, name)
        source = str(features.said.identity["fields"]["source"])
    columns = features.index.columns["content"]
    return {clip: columns[number].decode() for clip, number in features.index.position.items()}
