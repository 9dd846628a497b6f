"""What commands print for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.configured import default_stages
from pipeline.plan import StagePlan

if TYPE_CHECKING:
    from pipeline.extract import Outcome
    from pipeline.manifest import Manifest

FAILURES_SHOWN = 5


def plan_line(result: StagePlan) -> str:
    """`1240 fresh  12 changed input  3 new  2 failed before  1 removed`."""
    parts = [f"{len(result.fresh)} fresh"]
    parts += [f"{count} {reason}" for reason, count in sorted(result.reasons().items())]
    if result.failed:
        parts.append(f"{len(result.failed)} failed before")
    if result.removed:
        parts.append(f"{len(result.removed)} removed")
    return "  ".join(parts)


def print_plans(plans: Mapping[str, StagePlan], *, err: bool = False) -> None:
    """One line a stage, with why it is stale."""
    width = max(map(len, plans), default=0)
    for name, result in plans.items():
        click.echo(f"{name:<{width}}  {plan_line(result)}", err=err)


def print_absent(table: Manifest) -> None:
    """One line for the default stages that are left out because the corpus, as it lies there, has none of their media."""
    absent = default_stages(table)[1]
    if absent:
        media = " or ".join(sorted(set(absent.values())))
        click.echo(f"note: no clip of {table.name} has {media} media, so its defaults are without {', '.join(absent)}", err=True)


def print_status(table: Manifest, plans: Mapping[str, StagePlan]) -> None:
    """Every stage of a name: what is published, what an extraction would do, what failed."""
    click.echo(f"{table.name}  ({table.binding.corpus} at {table.binding.root}, {len(table.samples)} clips)")
    width = max(map(len, plans), default=0)
    for name, result in plans.items():
        state = f"published {result.before.digest[:8]}" if result.before else "not published"
        stale = f"  stale: {result.staleness}" if result.staleness else ""
        click.echo(f"  {name:<{width}}  {state}{stale}  {plan_line(result)}")
        for failure in result.failed[:FAILURES_SHOWN]:
            click.echo(f"    failed: {failure.id!r}: {failure.reason}")
        if len(result.failed) > FAILURES_SHOWN:
            click.echo(f"    and {len(result.failed) - FAILURES_SHOWN} more; all of them with --json")


def print_untrained(plans: Mapping[str, StagePlan]) -> None:
    """Which stages to extract compute with seeded random weights: their features are no pretrained ones."""
    for name, result in plans.items():
        weights = str(getattr(result.stage.extractor, "weights", ""))
        if result.todo and weights.startswith("random:"):
            click.echo(f"note: {name} uses weights={weights}: seeded and untrained, not the published ones", err=True)


def print_outcome(outcome: Outcome, plans: Mapping[str, StagePlan]) -> None:
    """What an extraction made, and every clip that it could not."""
    for name, result in plans.items():
        made, failed = outcome.extracted.get(name, 0), outcome.failed.get(name, [])
        if not made and not failed:
            click.echo(f"{name}: nothing to do, {len(result.fresh)} clips are fresh", err=True)
        else:
            click.echo(f"{name}: {made} clips extracted, {len(failed)} failed, {len(result.fresh)} of {len(result.stats)} ready", err=True)
        for failure in failed[:FAILURES_SHOWN]:
            click.echo(f"  failed: {failure.id!r}: {failure.reason}", err=True)
        if len(failed) > FAILURES_SHOWN:
            click.echo(f"  and {len(failed) - FAILURES_SHOWN} more; see: signcache status {result.stage.dataset}", err=True)
        if name in outcome.unpublished:
            left = outcome.unpublished[name]
            click.echo(f"  {left} clips are still to do; the older features stay published until then", err=True)


def scores_line(result: Mapping[str, Any]) -> str:
    """`demo/lstm_late on test: top-1 72.2% (95% interval 61.1% to 83.3% by clip), chance 12.5%, top-5 ..., 18 clips`."""
    interval, chance = result["interval"], result["chance"]
    spread = f"{interval['level']:.0%} interval {interval['low']:.1%} to {interval['high']:.1%} by {interval['by']}"
    return (
        f"{result['dataset']}/{result['model']} on {result['split']}: top-1 {result['top1']:.1%} ({spread}), "
        f"chance {chance['uniform']:.1%}, "
        f"top-5 {result['top5']:.1%}, macro F1 {result['macro_f1']:.3f}, {result['n']} clips"
    )


def print_scores(trained: Any, page: Path) -> None:
    """The score beside chance, warnings, and where the run and its report lie."""
    click.echo(scores_line(trained.scores), err=True)
    click.echo(f"run:    {trained.folder}", err=True)
    click.echo(f"report: {page}", err=True)
