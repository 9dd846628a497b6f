"""Why a run erred: the clips of note of its report, explained by hiding what they hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.reports._pictures import picture
from pipeline.reports.explaining.page import draw_hidden
from pipeline.reports.explaining.subject import of_corpus
from pipeline.reports.explaining.why import Why, explained
from pipeline.runs.run_folder import Run

CLIPS, PARTS = 4, 3
MOST_VALUES = 50_000
"""Of a row: what is larger is pictures, which to hide a part at a time takes minutes."""


def errors(home: Home, run: Run) -> list[dict[str, Any]]:
    """What a report says of a few clips that were taken for something else, each with its graph."""
    found, truths = [], {clip["id"]: clip["label"] for clip in run.scores.get("worst", ())}
    for clip, why in whys_of(home, run).items():
        parts = sorted(why.hidden.shares().items(), key=lambda pair: -pair[1])[:PARTS]
        names = [(f"{stage}: {part}", share) for (stage, part), share in parts]
        graph = picture((9, 2.6), partial(draw_hidden, why=why))
        found.append({"clip": clip, "truth": truths[clip], "label": why.label, "parts": names, "graph": graph})
    return found


def whys_of(home: Home, run: Run) -> dict[str, Why]:
    """`{clip: why it was taken for what it was}` of a few clips that were taken for something else; none where that cannot be asked."""
    shapes = [stage["row_shape"] for stage in run.record.get("stages", {}).values()]
    if not shapes or max(map(math.prod, shapes)) > MOST_VALUES:
        return {}
    found: dict[str, Why] = {}
    try:
        table = manifest.read(home, run.dataset)
        for clip, guess in chosen(run.scores).items():
            found[clip] = explained(of_corpus(home, run, table, clip), guess, by_gradients=False)
    except (UserError, KeyError):  # what was scored is not there any more: the report says so elsewhere
        return found
    return found


def chosen(result: Mapping[str, Any]) -> dict[str, str]:
    """`{clip: what it was taken for}`: one of each of the commonest confusions, then those whose truth was held least likely."""
    wrong = [clip for clip in result.get("worst", ()) if clip["label"] != clip["guess"]]
    often = Counter((clip["label"], clip["guess"]) for clip in wrong)
    first = {pair: next(c["id"] for c in wrong if (c["label"], c["guess"]) == pair) for pair, _ in often.most_common(CLIPS // 2)}
    order = [*first.values(), *(clip["id"] for clip in wrong)]
    guesses = {clip["id"]: clip["guess"] for clip in wrong}
    return {clip: guesses[clip] for clip in list(dict.fromkeys(order))[:CLIPS]}
