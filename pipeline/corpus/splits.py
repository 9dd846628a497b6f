"""Which clip trains, which one stops, which one scores: official lists, held-out signers, or a stratified cut; once given, kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import xxhash

from pipeline.corpus.intervals import Interval, interval_of, parted
from pipeline.errors import UserError
from pipeline.types import SPLITS, Dataset, Grouping, Sample, Split, SplitRule

KINDS = ("official", "signer", "stratified")
SHARES: Mapping[Split, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Words:
    """What a corpus declares for `--split` beside KINDS: groups that are kept together, and splits that other systems report on."""

    groupings: Mapping[str, Grouping] = field(default_factory=dict)
    protocols: Mapping[str, SplitRule] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset) -> Words:
        """Those of a corpus."""
        return cls(getattr(dataset, "groupings", {}), getattr(dataset, "protocols", {}))


def assign(
    samples: Sequence[Sample],
    asked: str,
    seed: int,
    known: Mapping[str, Split],
    words: Words | None = None,
    *,
    away: Sequence[Sample] = (),
) -> tuple[str, list[Sample]]:
    """The kind of split and the samples with theirs; ids whose split is `known` keep it, and their groups, also those that are `away`.

    A name of the corpus' `groupings` divides all clips anew, and keeps the clips of a group together; one of its `protocols` stands
    for another official list.
    Default: official where every clip has one, else by signer where every signer is known, else stratified by label;
    where the corpus gives only some clips a split, these keep it.
    Where a corpus names no labelled validation clip, a seeded cut of train (by signer where known) becomes it.
    Once ids are known, a new clip that the official list, or a split by signer whose signer the corpus, does not name is unassigned.
    """
    groupings, protocols = (words or Words()).groupings, (words or Words()).protocols
    if asked in protocols:
        samples = [_with_split(sample, protocols[asked](sample)) for sample in samples]
    official = all(sample.split != "unassigned" for sample in samples)
    every = [*samples, *(_with_split(sample, "unassigned") for sample in away)]
    signers = {sample.signer for sample in every}
    by_signer = None not in signers and len(signers) > 1
    kind = asked or ("official" if official else "signer" if by_signer else "stratified")
    if kind not in (*KINDS, *groupings, *protocols):
        raise UserError(f"--split {kind}: no such split; use {', '.join([*KINDS[:2], *groupings, *protocols])} or {KINDS[2]}")
    if kind == "signer" and not (by_signer or known):
        raise UserError("--split signer: the corpus names fewer than two signers; use --split stratified")
    if kind == "official" and not (official or known):
        missing = next(sample.id for sample in samples if sample.split == "unassigned")
        raise UserError(f"--split official: the corpus gives no split for {missing!r}; use --split signer or stratified")
    if kind == "official" or kind in protocols:
        return kind, _with_validation(every, seed, known, declared(every, kind, groupings)[1])[: len(samples)]
    kept = {**known, **_given(samples, kind, official)} if kind in KINDS else known
    groups = groups_of(every, kind) if kind in KINDS else declared(every, kind, groupings)[1]
    divided = _divided(every, groups, seed, kept, SHARES)[: len(samples)]
    if kind == "signer":
        return kind, [s if s.signer is not None or s.id in kept else _with_split(s, "unassigned") for s in divided]
    return kind, [_with_split(s, kept.get(s.id, s.split)) for s in divided]  # a new clip may join two groups


def _given(samples: Sequence[Sample], kind: str, official: bool) -> dict[str, Split]:
    """The splits that the corpus gives where it gives some; these clips keep theirs."""
    given = [] if official else [sample for sample in samples if sample.split != "unassigned"]
    for signer, splits in (crossing_signers(given) if kind == "signer" else {}).items():
        raise UserError(
            f"--split signer: the corpus puts signer {signer!r} into {' and '.join(splits)}; let it name one, or use --split stratified"
        )
    return {sample.id: sample.split for sample in given}


def _with_split(sample: Sample, split: Split) -> Sample:
    return sample if sample.split == split else Sample(sample.id, sample.media, sample.label, split, sample.signer)


def groups_of(samples: Sequence[Sample], kind: str) -> Mapping[str, str]:
    """`{id: group}`: what a split of this kind keeps together: a signer's clips, or each clip alone."""
    return {sample.id: sample.signer if kind == "signer" and sample.signer is not None else sample.id for sample in samples}


def declared(samples: Sequence[Sample], kind: str, groupings: Mapping[str, Grouping] | None = None) -> tuple[str, Mapping[str, str]]:
    """What a corpus says belongs together, in a word, and `{id: group}`: what the split is by, else the first that it declares.

    Where it declares nothing, that is each clip alone, a `clip`.
    """
    found = groupings or {}
    word = kind if kind in found else next(iter(found), "clip")
    return word, found[word](samples) if word in found else {sample.id: sample.id for sample in samples}


def _with_validation(samples: Sequence[Sample], seed: int, known: Mapping[str, Split], together: Mapping[str, str]) -> list[Sample]:
    """Official splits; where no validation clip has a label, a tenth of train is cut for it, and stays so while these are away."""
    listed = [_with_split(s, known.get(s.id, s.split)) if s.split == "unassigned" else s for s in samples]
    was_cut = any(sample.split == "train" and known.get(sample.id) == "val" for sample in samples)
    if any(sample.split == "val" and sample.label is not None for sample in (samples if was_cut else listed)):
        return listed
    train = [sample for sample in listed if sample.split in ("train", "val") and sample.label is not None]
    cut: dict[str, Split] = {sample.id: sample.split for sample in with_cut(train, together, seed, known)}
    cut |= {clip: known[clip] for clip in cut if known.get(clip) in ("train", "val")}  # whatever is kept together since
    return [_with_split(sample, cut.get(sample.id, sample.split)) for sample in listed]


def with_cut(train: Sequence[Sample], together: Mapping[str, str], seed: int, known: Mapping[str, Split] | None = None) -> list[Sample]:
    """The training clips, of which a seeded tenth has become validation; `known` ids keep what they had.

    Whole signers are cut where more than two are known, else whole groups of `{id: group}` where these are more than two, else clips.
    """
    by_signer = {sample.id: str(sample.signer) for sample in train} if all(sample.signer is not None for sample in train) else {}
    by_group = {sample.id: together.get(sample.id, sample.id) for sample in train}
    groups = next((kept for kept in (by_signer, by_group) if len(set(kept.values())) > 2), {sample.id: sample.id for sample in train})
    shares: Mapping[Split, float] = {"train": 0.9, "val": 0.1}
    kept = {clip: split for clip, split in (known or {}).items() if split in shares}
    divided = _divided(train, groups, seed, kept, shares)
    return [_with_split(sample, kept.get(sample.id, sample.split)) for sample in divided]  # an older cut may have parted groups


def _divided(
    samples: Sequence[Sample], group_of: Mapping[str, str], seed: int, known: Mapping[str, Split], shares: Mapping[Split, float]
) -> list[Sample]:
    """Each new group (often one clip) goes where its class and the whole lack most; the order is a seeded hash of its name.

    A group of several classes, as a signer's, goes by the whole alone.
    """
    placed: dict[str, Split] = {}
    for sample in samples if known else ():
        before = known.get(sample.id)
        if before and before in shares:
            placed.setdefault(group_of[sample.id], before)
    groups: dict[str, list[Sample]] = {}
    counts: dict[str | None, Counter[Split]] = {}
    for sample in samples if len(placed) < len(set(group_of.values())) else ():
        groups.setdefault(group_of[sample.id], []).append(sample)
    for name in groups.keys() & placed.keys():
        _count(counts, groups[name], placed[name])
    drawn = {name: xxhash.xxh64_intdigest(f"{seed}:{name}".encode(errors="surrogateescape")) for name in groups if name not in placed}
    waiting = sorted(drawn, key=lambda name: drawn[name])
    for left, name in zip(range(len(waiting), 0, -1), waiting, strict=True):
        labels = {sample.label for sample in groups[name]}
        split = _class_split(counts, labels.pop(), shares) if len(labels) == 1 else _mixed_split(counts, left, shares)
        placed[name] = split
        _count(counts, groups[name], split)
    return [_with_split(sample, placed[group_of[sample.id]]) for sample in samples]


def _count(counts: dict[str | None, Counter[Split]], members: Sequence[Sample], split: Split) -> None:
    for sample in members:
        counts.setdefault(sample.label, Counter())[split] += 1
        counts.setdefault("\0all", Counter())[split] += 1


def _lack(counter: Counter[Split], shares: Mapping[Split, float]) -> dict[Split, float]:
    """How many clips each split lacks of its share, one clip more counted."""
    return {split: share * (counter.total() + 1) - counter[split] for split, share in shares.items()}


def _class_split(counts: Mapping[str | None, Counter[Split]], label: str | None, shares: Mapping[Split, float]) -> Split:
    own, every = counts.get(label, Counter()), counts.get("\0all", Counter())
    if not own["train"]:
        return "train"  # a class is learned before it is scored
    lacks = {split: lack + _lack(every, shares)[split] for split, lack in _lack(own, shares).items()}
    return max(reversed(SPLITS), key=lambda split: lacks.get(split, float("-inf")))


def _mixed_split(counts: Mapping[str | None, Counter[Split]], left: int, shares: Mapping[Split, float]) -> Split:
    """Every split gets a group while there are enough; then the one that lacks most clips."""
    every = counts.get("\0all", Counter())
    empty: list[Split] = [split for split in ("train", "test", "val") if split in shares and not every[split]]
    if empty and left <= len(empty):
        return empty[0]
    lacks = _lack(every, shares)
    return max(lacks, key=lambda split: lacks[split])


def crossing_signers(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Signers whose clips lie in more than one split, with these splits."""
    return crossing_groups(samples, {sample.id: sample.signer for sample in samples if sample.signer is not None})


def crossing_groups(samples: Sequence[Sample], group_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Groups whose clips lie in more than one split, with these splits; `group_of` tells that of each clip that has one."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        if sample.id in group_of and sample.split != "unassigned":
            found.setdefault(group_of[sample.id], set()).add(sample.split)
    return {group: sorted(splits) for group, splits in sorted(found.items()) if len(splits) > 1}


def crossing_duplicates(samples: Sequence[Sample], contents: Mapping[str, Hashable]) -> list[list[Sample]]:
    """Groups of clips in more than one split that were made from the same bytes; `contents` tells those of each clip."""
    groups: dict[Hashable, list[Sample]] = {}
    for sample in samples:
        if sample.id in contents and sample.split != "unassigned":
            groups.setdefault(contents[sample.id], []).append(sample)
    return [group for group in groups.values() if len({sample.split for sample in group}) > 1]


def crossing_overlaps(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Clips that show moments of one in another split, after it: intervals of one file that overlap, both in seconds or both in frames."""
    intervals: dict[tuple[str, str], list[tuple[Interval, Sample]]] = {}
    for sample in samples:
        for file, written in {parted(path) for paths in sample.media.values() for path in paths}:
            if written and sample.split != "unassigned":
                interval = interval_of(written)
                intervals.setdefault((file, interval.unit), []).append((interval, sample))
    found = list[tuple[Sample, Sample]]()
    for together in intervals.values():
        last: dict[Split, tuple[float, Sample]] = {}
        for interval, sample in sorted(together, key=lambda pair: (pair[0].start, pair[1].id)):
            others = [before for split, (end, before) in last.items() if split != sample.split and end > interval.start]
            found += [(before, sample) for before in others[:1]]
            last[sample.split] = max(last.get(sample.split, (0.0, sample)), (interval.end, sample), key=lambda pair: pair[0])
    return found


def overlap_line(samples: Sequence[Sample], kind: str = "split") -> list[str]:
    """A line where clips show moments of one in another split, or another `kind` of part."""
    pairs = crossing_overlaps(samples)
    first = " and ".join(f"{sample.split} {sample.id}" for sample in pairs[0]) if pairs else ""
    return [f"{len(pairs)} clips show moments of a clip of another {kind}, so scores flatter (first: {first})"] if pairs else []


def describe(samples: Sequence[Sample]) -> str:
    """`train 72, val 9, test 9`, with the unlabelled ones named, and those in no split if there are any."""
    counts = Counter(sample.split for sample in samples)
    unlabelled = Counter(sample.split for sample in samples if sample.label is None)
    splits: tuple[Split, ...] = (*SPLITS, "unassigned") if counts["unassigned"] else SPLITS
    return ", ".join(f"{s} {counts[s]}" + (f" ({unlabelled[s]} unlabelled)" if unlabelled[s] else "") for s in splits)
