"""The clips below a root beside those that its name knew before: called as they were, and remembered while they are away."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from pipeline.corpus.intervals import parted
from pipeline.corpus.media import composed, exists, listing
from pipeline.errors import UserError
from pipeline.types import Sample, Split


@dataclass(frozen=True)
class Listing:
    """The clips that are there, the split of every one that was ever listed, and those that are away with theirs."""

    found: Sequence[Sample]
    known: Mapping[str, Split]
    away: tuple[Sample, ...]


def checked(samples: Iterable[Sample], root: Path) -> Iterator[Sample]:
    """The same clips; raises UserError where two have one id, or where a file is not below the root."""
    seen: dict[str, Sample] = {}
    for sample in samples:
        if seen.setdefault(sample.id, sample) is not sample:
            files = [", ".join(part for paths in s.media.values() for part in paths) for s in (seen[sample.id], sample)]
            raise UserError(f"two clips below {root} have the id {sample.id!r}: {files[0]} and {files[1]}; rename one of them")
        for paths in sample.media.values():
            for part in paths:
                if part.startswith("/") or (".." in part and ".." in parted(part)[0].split("/")):
                    raise UserError(f"clip {sample.id!r} names the file {part!r}, which is not below its root {root}")
        yield sample


def with_media(samples: Iterable[Sample], root: Path, told: Collection[str]) -> Iterator[Sample]:
    """The same clips; raises UserError at their end where none of them has media of a modality that is told of."""
    known = set[str]()
    for sample in samples:
        known |= sample.media.keys()
        yield sample
    unknown = {modality for modality in told if modality} - known
    if unknown:
        raise UserError(
            f"--may-lack {min(unknown)}: the clips below {root} have {', '.join(sorted(known)) or 'no media'}; name some of these"
        )


def without_lacked(samples: Iterable[Sample], root: Path, may_lack: Collection[str]) -> Iterator[Sample]:
    """The same clips, each without the media of these modalities of which no file is there; a clip with some of them is to have all."""
    if not may_lack:
        yield from samples
        return
    for sample in samples:
        gone = {m for m in may_lack if m in sample.media and not any(exists(root / part) for part in sample.media[m])}
        kept = {modality: paths for modality, paths in sample.media.items() if modality not in gone}
        yield replace(sample, media=kept) if gone else sample


def listed(samples: Iterable[Sample], root: Path, before: Iterable[Sample], classes: Iterable[str]) -> Listing:
    """Clips as a corpus finds them, in the order of their ids, beside those of `before` and its `classes`.

    A name is composed, unless it was known in another form.
    """
    with listing():
        found = sorted(checked(map(_in_form, samples), root), key=attrgetter("id"))
    here = {sample.id for sample in found}
    known, away = dict[str, Split](), list[Sample]()
    forms = {composed(label): label for label in classes if not label.isascii()}
    for sample in before:
        form = _in_form(sample)
        if form is not sample:
            forms |= {form.id: sample.id, form.signer or "": sample.signer or ""}
        if sample.split != "unassigned":
            known[sample.id] = sample.split
        if form.id not in here:
            away.append(replace(sample, media={}))
    if any(form != name for form, name in forms.items()):
        found = sorted((_in_form(sample, forms) for sample in found), key=attrgetter("id"))
    return Listing(found, known, tuple(away))


def _in_form(sample: Sample, forms: Mapping[str, str] | None = None) -> Sample:
    """The sample with its names composed, or in the `forms` of composed ones; itself where it has them already."""
    names = sample.id, sample.label, sample.signer
    if "".join(filter(None, names)).isascii():
        return sample
    clip, label, signer = (name and (forms or {}).get(composed(name), composed(name)) for name in names)
    return sample if (clip, label, signer) == names else replace(sample, id=clip or "", label=label, signer=signer)
