"""What commands print for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from pipeline.cache.stage import default_stages
from pipeline.corpus.manifest import groupings
from pipeline.corpus.presets import preset_of
from pipeline.corpus.splits import crossing_duplicates, crossing_groups, crossing_signers, overlap_line
from pipeline.extraction.plan import StagePlan
from pipeline.machine import shown_size

if TYPE_CHECKING:
    from pipeline.cache.index import Index
    from pipeline.corpus.manifest import Manifest
    from pipeline.extraction.estimate import Estimate
    from pipeline.extraction.extract import Outcome
    from pipeline.extraction.sharing.working import Working
    from pipeline.remote.pull import Pulled
    from pipeline.reports.comparison import Compared

FAILURES_SHOWN = 5


def plan_line(result: StagePlan) -> str:
    """`1240 fresh  12 changed input  3 new  2 failed before  1 removed`."""
    parts = [f"{len(result.fresh)} fresh"]
    parts += [f"{count} {reason}" for reason, count in sorted(result.reasons().items())]
    if result.failed:
        parts.append(f"{len(result.failed)} failed before")
    if result.lacking:
        parts.append(f"{len(result.lacking)} without {result.stage.modality}")
    if result.removed:
        parts.append(f"{len(result.removed)} removed")
    return "  ".join(parts)


def plan_lines(plans: Mapping[str, StagePlan], costs: Mapping[str, Estimate]) -> list[str]:
    """One line a stage, with why it is stale and what it costs."""
    width = max(map(len, plans), default=0)
    ends = {name: f"  ({costs[name]})" if name in costs else "" for name in plans}
    return [f"{name:<{width}}  {plan_line(result)}{ends[name]}" for name, result in plans.items()]


def print_absent(table: Manifest, settings: Mapping[str, str] | None = None) -> None:
    """One line for the default stages that are left out because the corpus, as it lies there, has none of their media."""
    absent = default_stages(table, preset_of(settings or {})[0])[1]
    if absent:
        media = " or ".join(sorted(set(absent.values())))
        click.echo(f"note: no clip of {table.name} has {media} media, so its defaults are without {', '.join(absent)}", err=True)


def print_apart(table: Manifest) -> None:
    """A line each for the clips that were listed before and are not there now, and for those that are in no split."""
    if table.away:
        click.echo(
            f"note: {len(table.away)} clips of {table.name} that were listed before are not there now, first {table.away[0].id!r}; "
            "should they come back, they keep their splits",
            err=True,
        )
    unassigned = [sample.id for sample in table.samples if sample.split == "unassigned"]
    if unassigned:
        given = "signer" if table.binding.split == "signer" else "split"
        click.echo(
            f"warning: {len(unassigned)} clips of {table.name} are in no split and take no part in training and scoring, first "
            f"{unassigned[0]!r}: the corpus gives no {given} for them; add it to its list, as to split.csv of a folder",
            err=True,
        )


def print_lacking(table: Manifest) -> None:
    """A line for each modality that clips may lack, and that some do."""
    for modality in sorted(table.may_lack):
        lacking = [sample.id for sample in table.samples if modality not in sample.media]
        if lacking:
            click.echo(
                f"note: {len(lacking)} of {len(table.samples)} clips of {table.name} have no {modality}, which they may lack, first "
                f"{lacking[0]!r}; models that can do without read them, the others leave them out only when told to",
                err=True,
            )


def print_crossing(table: Manifest) -> None:
    """A line for each signer, each kind of group that the corpus declares, and intervals that overlap, in more than one split."""
    for line in overlap_line(table.samples):
        click.echo(f"warning: {line}", err=True)
    for signer, parts in crossing_signers(table.samples).items():
        click.echo(f"warning: signer {signer} is in {' and '.join(parts)}", err=True)
    for kind, grouping in groupings(table.dataset).items():
        crossing = crossing_groups(table.samples, grouping(table.samples))
        if crossing:
            first, parts = next(iter(crossing.items()))
            click.echo(
                f"note: clips of {len(crossing)} {kind}s are in more than one split (first: {first}: {' and '.join(parts)}); "
                f"--split {kind} keeps them together, under another name",
                err=True,
            )


def print_unlearned(table: Manifest) -> None:
    """The labels that only clips outside of train have: these clips cannot be recognised and count as wrong."""
    learned = {sample.label for sample in table.samples if sample.split == "train"}
    others = [sample for sample in table.samples if sample.label is not None and sample.label not in learned]
    if others:
        first = f"{others[0].id}: {others[0].label}"
        click.echo(f"warning: {len(others)} clips have labels that no clip of train has; they count as wrong (first: {first})", err=True)


def duplicate_lines(table: Manifest, plans: Mapping[str, StagePlan]) -> Iterator[str]:
    """A line for each stage whose media are the same bytes in more than one split."""
    for name, result in plans.items():
        groups = [] if result.stage.upstream else crossing_duplicates(table.samples, _repeated(result.done.index))
        if groups:
            first = " = ".join(f"{sample.split} {sample.id}" for sample in groups[0][:3])
            yield f"{sum(map(len, groups))} clips have the same {name} media as one of another split (first: {first})"


def _repeated(done: Index) -> dict[str, bytes]:
    """`{clip: content hash}` of the rows whose content others seem to have too: the first half of 32 bits decides."""
    contents = done.columns["content"]
    heads = contents.view(np.uint64).reshape(-1, 4)[:, 0]
    ordered = np.sort(heads)
    often = np.flatnonzero(np.isin(heads, ordered[1:][ordered[1:] == ordered[:-1]]))
    ids = done.text("ids") if len(often) else []
    return {ids[number]: contents[number] for number in often.tolist()}


def print_status(
    table: Manifest, plans: Mapping[str, StagePlan], healths: Mapping[str, str], at_work: Mapping[str, Sequence[Working]]
) -> None:
    """Every stage of a name: what is published, what an extraction would do, who is at one, what failed."""
    click.echo(f"{table.name}  ({table.binding.corpus} at {table.binding.root}, {len(table.samples)} clips)")
    width = max(map(len, plans), default=0)
    for name, result in plans.items():
        state = f"published {result.before.digest[:8]}" if result.before else "not published"
        stale = f"  stale: {result.staleness}" if result.staleness else ""
        click.echo(f"  {name:<{width}}  {state}{stale}  {plan_line(result)}")
        if name in healths:
            click.echo(f"    health: {healths[name]}")
        for failure in result.failed[:FAILURES_SHOWN]:
            click.echo(f"    failed: {failure.id!r}: {failure.reason}")
        if len(result.failed) > FAILURES_SHOWN:
            click.echo(f"    and {len(result.failed) - FAILURES_SHOWN} more; all of them with --json")
    for name, runs in at_work.items():
        for run in runs:
            click.echo(f"  at work on {name}: {run}")
    for line in duplicate_lines(table, plans):
        click.echo(f"  warning: {line}")


def print_untrained(plans: Mapping[str, StagePlan]) -> None:
    """Which stages to extract compute with seeded random weights: their features are no pretrained ones."""
    for name, result in plans.items():
        weights = str(getattr(result.stage.extractor, "weights", ""))
        if result.todo and weights.startswith("random:"):
            click.echo(f"note: {name} uses weights={weights}: seeded and untrained, not the published ones", err=True)


def outcome_lines(outcome: Outcome, plans: Mapping[str, StagePlan], failures: int = FAILURES_SHOWN) -> Iterator[str]:
    """What an extraction made, and the clips that it could not, some or all of them."""
    for name, result in plans.items():
        made, failed = outcome.extracted.get(name, 0), outcome.failed.get(name, [])
        others = outcome.others.get(name, 0)
        without = f", {len(result.lacking)} without {result.stage.modality}" if result.lacking else ""
        if not made and not failed and not others:
            yield f"{name}: nothing to do, {len(result.fresh)} clips are fresh{without}"
        else:
            beside = f", {others} by other runs" if others else ""
            ready = f"{len(result.fresh)} of {len(result.states)} ready{without}"
            yield f"{name}: {made} clips extracted{beside}, {len(failed)} failed, {ready}"
        for failure in failed[:failures]:
            yield f"  failed: {failure.id!r}: {failure.reason}"
        if len(failed) > failures:
            yield f"  and {len(failed) - failures} more; see: signcache status {result.stage.dataset}"
        if name in outcome.unpublished:
            left = outcome.unpublished[name]
            yield f"  {left} clips are still to do; the older features stay published until then"


def pulled_lines(found: Mapping[str, Pulled], unpublished: Mapping[str, int]) -> Iterator[str]:
    """What was taken from a remote of each stage, and every shard that was refused."""
    for name, pulled in found.items():
        how = f"{pulled.tried} of them extracted again, which agree" if pulled.tried else "none of them tried"
        rows = (
            f"{pulled.clips} clips in {pulled.shards} shards taken, {shown_size(pulled.size)}, {how}" if pulled.clips else "nothing taken"
        )
        yield f"{name}: {rows}"
        yield from (f"  refused: shard {shard}: {reason}" for shard, reason in pulled.refused.items())
        if name in unpublished:
            yield f"  {unpublished[name]} clips are still to do; the older features stay published until then"


def scores_line(result: Mapping[str, Any]) -> str:
    """`demo/lstm_late on test: top-1 72.2% (95% interval 61.1% to 83.3% by clip), chance 12.5%, top-5 ..., 18 clips`."""
    interval, chance = result["interval"], result["chance"]
    name = f"{interval['level']:.0%} interval"
    if interval["low"] is None:
        spread = f"no {name}: the clips are of fewer than three {interval['by']}s"
    else:
        spread = f"{name} {interval['low']:.1%} to {interval['high']:.1%} by {interval['by']}"
    return (
        f"{result['dataset']}/{result['model']} on {result['split']}: top-1 {result['top1']:.1%} ({spread}), "
        f"chance {chance['uniform']:.1%}, "
        f"top-5 {result['top5']:.1%}, macro F1 {result['macro_f1']:.3f}, {result['n']} clips"
    )


def fold_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """A line a fold, and their mean; none of a run without folds."""
    folds = result.get("folds", ())
    for number, fold in enumerate(folds, start=1):
        yield f"fold {number} of {len(folds)}: top-1 {fold['top1']:.1%}, macro F1 {fold['macro_f1']:.3f}, {fold['n']} clips"
    if folds:
        yield f"over the folds: top-1 {result['over_folds']['mean']:.1%}, standard deviation {result['over_folds']['sd']:.1%}"


def comparison_lines(compared: Sequence[Compared]) -> Iterator[str]:
    """A table of runs side by side, and a line a run with what it differs in."""
    rows = [run.figures() for run in compared]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    yield "  ".join(f"{name:<{width}}" for name, width in widths.items()).rstrip()
    for row in rows:
        yield "  ".join(f"{row[name]:<{width}}" for name, width in widths.items()).rstrip()
    for run in compared:
        yield f"{run.name}: {run.differing}"


def print_scores(trained: Any, page: Path) -> None:
    """The score beside chance, that of each fold, and where the run and its report lie."""
    for line in fold_lines(trained.scores):
        click.echo(line, err=True)
    click.echo(scores_line(trained.scores), err=True)
    if "plain_mean" in trained.scores:
        from pipeline.runs.scoring.gain import in_words

        click.echo(in_words(trained.scores["plain_mean"]), err=True)
    click.echo(f"run:    {trained.folder}", err=True)
    click.echo(f"report: {page}", err=True)
