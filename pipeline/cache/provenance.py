"""What the numbers behind features learned from: the weights of every stage on their way, and the clips that trained them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import unseal
from pipeline.cache import shards, weights
from pipeline.cache.features import Features
from pipeline.cache.publishing import COPY
from pipeline.cache.stage import published
from pipeline.cache.trained import LEARNED
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.types import STAGE_PREFIX

_TOLD = ("run", "stage", "dataset", "corpus", "part", "seed", "began")
"""Of a story, what is told of it."""


@dataclass(frozen=True)
class Origin:
    """The weights of one stage: `weights` as its identity says them, `story` what they learned from where that is known."""

    stage: str
    weights: Mapping[str, Any]
    story: Mapping[str, Any] | None

    @property
    def stories(self) -> Iterator[Mapping[str, Any]]:
        """That of the weights, then that of those that their training began with, and so on."""
        story = self.story
        while story:
            yield story
            story = story.get("before")

    @property
    def seen(self) -> dict[str, str]:
        """`{content: split}` of every clip that any of them learned from, `train`, or was selected on, `val`."""
        clips = [clip for story in self.stories for clip in story["clips"]]
        return {clip["content"]: clip["split"] for clip in sorted(clips, key=lambda clip: clip["split"] == "train")}

    def signers(self, dataset: str, corpus: str) -> set[str]:
        """Whose clips of this data set, or of this corpus under another name, are among them."""
        alike = [story for story in self.stories if story["dataset"] == dataset or story["corpus"] == corpus]
        return {clip["signer"] for story in alike for clip in story["clips"]} - {None}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The trainings that the weights went through, the last first, in plain values: what `told` says, and `start`, the weights
        that one began with as an identity says them."""
        return [{**{key: story.get(key) for key in _TOLD}, "start": _start(story), **_learned(story["clips"])} for story in self.stories]

    @property
    def phrase(self) -> str:
        """`random:0, untrained`, `IMAGENET1K_V2, of ImageNet`, `run 4be1a2c3 of signs, fold 2 of 3`, or that nobody knows."""
        if self.story:
            part = f", {self.story['part']}" if self.story["part"] else ""
            return f"run {self.story['run'][:8]} on {self.story['dataset']}{part}"
        said = weights.phrase(self.weights)
        if "random" in self.weights:
            return f"{said}, untrained"
        return f"{said}, of ImageNet" if "IMAGENET" in said else f"{said}, which says nothing of what it learned from: unknown"


def origins(features: Features) -> tuple[Origin, ...]:
    """Of published features, the weights of their stage and of all that it derives from, as far as these have any."""
    return tuple(origins_of(features.home, features.dataset, features.name, features.digest, features.said.identity))


def origins_of(home: Home, dataset: str, name: str, digest: str, identity: Mapping[str, Any]) -> Iterator[Origin]:
    """The same of a stage of this identity, whatever is published under its name."""
    folder = home.cache / dataset / name / digest
    if "weights" in identity:
        yield Origin(name, identity["weights"], _kept(folder / LEARNED))
    source = str(identity["fields"]["source"])
    if source.startswith(STAGE_PREFIX):
        above, upstream = source.removeprefix(STAGE_PREFIX), str(identity["upstream"])
        known = _identity_of(home, dataset, above, upstream)
        if known is not None:
            yield from origins_of(home, dataset, above, upstream, known)


def histories(found: Iterable[Origin]) -> dict[str, list[dict[str, Any]]]:
    """`{stage: history}` of those weights of which any is known."""
    return {origin.stage: origin.history for origin in found if origin.story}


def _kept(path: Path) -> Mapping[str, Any] | None:
    try:
        story: Mapping[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it, and extract again with the same weights to have it written anew"
        ) from error
    return story


def _identity_of(home: Home, dataset: str, name: str, digest: str) -> Mapping[str, Any] | None:
    """What a stage was that features were derived from, whatever is published under its name now; None where it is gone."""
    said = published(home, dataset, name)
    if said and said.digest == digest:
        return said.identity
    try:
        found: Mapping[str, Any] = unseal((home.cache / dataset / name / digest / COPY).read_bytes())["identity"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return found


def tale(home: Home, origin: Origin) -> Iterator[str]:
    """A line or two for each training that weights went through, the last first: who trained them, on what, what they scored."""
    for training in origin.history:
        learned, selected = told(training)
        yield f"{learned}; {_score(home, training['run'])}"
        yield f"  {selected}"
    if origin.story is None:
        yield origin.phrase


def told(training: Mapping[str, Any]) -> tuple[str, str]:
    """Who trained weights on what, and by what they were selected and began, of one of a `history`."""
    part = f" ({training['part']})" if training["part"] else ""
    by = f"run {training['run']} trained {training['stage']} on {training['dataset']}{part}, seed {training['seed']}"
    began = training["began"] or "weights that it does not name"
    return f"{by}: learned {training['learned']}", f"selected on {training['selected']}; began with {began}"


def trainings(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """A stage and a line for each training that its weights went through, the last first."""
    return [(stage, "; ".join(told(training))) for stage, found in histories.items() for training in found]


def _start(story: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights that a training began with, as an identity says them; empty where its story does not."""
    found: Mapping[str, Any] = (story.get("start") or {}).get("weights") or {}
    return found


def _learned(clips: list[Mapping[str, Any]]) -> dict[str, str]:
    learned, selected = (_spread([clip for clip in clips if clip["split"] == split]) for split in ("train", "val"))
    return {"learned": learned, "selected": selected}


def _spread(clips: list[Mapping[str, Any]]) -> str:
    """`48 clips of 4 signers (anna, bert, ...)`."""
    signers = sorted({str(clip["signer"]) for clip in clips if clip["signer"] is not None})
    named = ", ".join(signers[:5]) + (", ..." if len(signers) > 5 else "")
    return f"{len(clips)} clips" + (f" of {len(signers)} signers ({named})" if signers else ", signers unknown" if clips else "")


def _score(home: Home, run: str) -> str:
    """What a run's result says, where it is still in this cache."""
    for path in home.cache.glob(f"runs/*/*/{run}/result.json"):
        result = json.loads(path.read_bytes())
        return f"top-1 {result['top1']:.1%} on {result['split']}"
    return "its score is not in this cache"


def giver(made: Mapping[str, Any]) -> tuple[str, ...]:
    """Where rows were pulled from, who pushed and who signed them; nothing of rows that were made here."""
    said = made.get("pulled")
    return (said["from"], said["by"], said["signer"]) if said else ()


def given(features: Features) -> Iterator[str]:
    """A line for each who gave some of these rows, how many clips, pushed when; and for each adoption."""
    clips, when = Counter[tuple[str, ...]](), dict[tuple[str, ...], list[float]]()
    adopted = Counter[str]()
    every = Counter(features.index.shard_of[[*features.index.position.values()]].tolist())
    for number, count in every.items():
        made = shards.read_record(features.folder / (features.index.shards[number].name + shards.MARKER_SUFFIX)).made
        if evidence := made.get("adopted"):
            adopted[taken_over(evidence)] += count
        if who := giver(made):
            clips[who] += count
            when.setdefault(who, []).append(float(made["pulled"]["pushed_at"]))
    for who, count in sorted(clips.items()):
        yield f"{count} of {len(features)} clips from {who[0]}, pushed by {who[1]} on {day(max(when[who]))}, signed by {who[2][:16]}..."

    for said, count in sorted(adopted.items()):
        yield f"{count} of {len(features)} clips {said}"


def taken_over(evidence: Mapping[str, Any]) -> str:
    """`adopted from 1a2b3c4d on 2026-11-21 (code of stages/colour.py): 3 clips tried, equal byte for byte`."""
    equal = "byte for byte" if evidence["equal_bytes"] else f"within {evidence['largest_difference']:.3g} of the largest value"
    origin = f"adopted from {evidence['from'][:8]} on {day(evidence['at'])} ({evidence['because']})"
    return f"{origin}: {len(evidence['sample'])} clips tried, equal {equal}"


def day(at: float) -> str:
    """`2026-11-21`, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))
