"""Care of the cache: verify, adopt, gc, drop, compact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import device_option, folder_home_of, json_option, print_json

if TYPE_CHECKING:
    from pipeline.cache.upkeep.verify import Damage, Report
    from pipeline.corpus.manifest import Home

EXIT_DAMAGED = 1
yes_option = click.option("--yes", is_flag=True, help="Do it; without, only say what would be done.")


@click.command()
@click.argument("name", required=False)
@click.argument("stage", required=False)
@click.option("--again", is_flag=True, help="Start over though an earlier verification was interrupted.")
@click.option("--mend", "mends", is_flag=True, help="Set damaged shards aside, so that extract rebuilds exactly their clips.")
@json_option
@click.pass_context
def verify(ctx: click.Context, name: str | None, stage: str | None, again: bool, mends: bool, as_json: bool) -> None:
    """Read every finished shard and compare it with its checksums; exit status 1 where something is damaged.

    An interrupted verification goes on where it was.
    """
    from dataclasses import asdict

    from pipeline.cache.upkeep.places import chosen
    from pipeline.cache.upkeep.verify import Report
    from pipeline.cache.upkeep.verify import verify as look

    home, report, say = folder_home_of(ctx), Report(), _Lines()
    for dataset, each in chosen(home, name, stage):
        look(home, dataset, each, again=again, say=say, report=report)
    if as_json:
        print_json({**asdict(report), "damages": [asdict(damage) for damage in report.damages]})
    _print_report(report)
    if report.damages and mends:
        _mend(home, report.damages)
    elif report.damages:
        for pair in sorted({(damage.dataset, damage.stage) for damage in report.damages}):
            click.echo(f"mend it with: signcache verify {' '.join(pair)} --mend", err=True)
        ctx.exit(EXIT_DAMAGED)


class _Lines:
    """A line of progress every ten seconds."""

    def __init__(self) -> None:
        import time

        self.clock = time.monotonic
        self.said = self.clock()

    def __call__(self, stage: str, number: int, total: int) -> None:
        if self.clock() - self.said > 10:
            self.said = self.clock()
            click.echo(f"{stage}: {number}/{total} shards", err=True)


def _print_report(report: Report) -> None:
    from pipeline.machine import shown_size

    for damage in report.damages:
        click.echo(f"damaged: {damage}", err=True)
    before = f"; {report.before} more were found whole before the interruption" if report.before else ""
    state = f"{len(report.damages)} damaged" if report.damages else "all whole"
    click.echo(f"{report.shards} shards, {report.clips} clips, {shown_size(report.size)} read: {state}{before}", err=True)


def _mend(home: Home, damages: list[Damage]) -> None:
    from pipeline.cache.upkeep.mend import mend

    for line in mend(home, damages):
        click.echo(line, err=True)
    for pair in sorted({(damage.dataset, damage.stage) for damage in damages}):
        click.echo(f"rebuild what is missing now with: signcache extract {' '.join(pair)}", err=True)


@click.command()
@click.argument("name")
@click.argument("stage")
@click.option("--sample", type=click.IntRange(min=1), required=True, metavar="K", help="Published clips to extract with today's code.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=1),
    default=0.0,
    show_default=True,
    help="Largest difference allowed, as a fraction of the largest value; 0 asks for equal bytes.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random sample.")
@device_option
@json_option
@click.pass_context
def adopt(ctx: click.Context, /, name: str, stage: str, as_json: bool, **given: Any) -> None:
    """Keep the features of a stage whose code changed but not its numbers.

    K random clips are extracted with today's code; if they agree with what is published, that becomes today's, and the runs
    that were trained on it are evaluated on it as before. So does what an extraction made that was left unfinished to mend the
    code, if that is younger; it goes on from there, and tries again what failed.
    """
    from pipeline.cache.stage import configure
    from pipeline.corpus import manifest
    from pipeline.extraction.adopt import Trial
    from pipeline.extraction.adopt import adopt as run
    from pipeline.extraction.progress import Progress

    home = folder_home_of(ctx)
    table = manifest.read(home, name)
    made = run(home, table, configure(home, table, stage), Trial(**given), Progress())
    said = "byte for byte" if made.evidence["equal_bytes"] else f"within {made.evidence['largest_difference']:.3g} of the largest value"
    click.echo(f"{name}/{stage}: {made.clips} clips adopted; {len(made.evidence['sample'])} tried, equal {said}", err=as_json)
    if made.is_unfinished:
        click.echo(f"go on with the line that was left, or: signcache extract {name} {stage}", err=True)
    for each in made.derived:
        click.echo(
            f"{each} derives from it and is stale by that; keep it with: signcache adopt {name} {each} --sample {given['sample']}", err=True
        )
    if as_json:
        print_json({"dataset": name, "stage": stage, "clips": made.clips, "evidence": made.evidence, "stale": list(made.derived)})


@click.command()
@click.argument("name", required=False)
@click.argument("stage", required=False)
@yes_option
@click.option("--runs-too", is_flag=True, help="Also what runs were trained on.")
@json_option
@click.pass_context
def gc(ctx: click.Context, name: str | None, stage: str | None, yes: bool, runs_too: bool, as_json: bool) -> None:
    """List what nobody needs: unpublished identities, shards without marker, leftovers; --yes deletes it.

    What is published, what a run was trained on, and stages that are being extracted stay.
    """
    from pipeline.cache.upkeep.garbage import collect
    from pipeline.cache.upkeep.places import chosen
    from pipeline.machine import shown_size

    home = folder_home_of(ctx)
    found = list(collect(home, chosen(home, name, stage), yes=yes, runs_too=runs_too))
    for item in found:
        where = f"{item.dataset}/{item.stage}".strip("/")
        runs = f"  runs: {', '.join(item.runs)}" if item.runs else ""
        kept = f"  kept: {item.kept}" if item.kept else ""
        line = f"{where}  {item.what}  {shown_size(item.size)}  {item.age_days:.1f} days old  {item.path.name}{runs}{kept}"
        click.echo(line.lstrip(), err=as_json)
    going = [item for item in found if not item.kept]
    size = shown_size(sum(item.size for item in going))
    hint = "deleted" if yes else "may go; delete it with: signcache gc --yes" if going else "may go"
    click.echo(f"{len(going)} things, {size}, {hint}", err=True)
    if as_json:
        print_json({"deleted": yes, "size": sum(item.size for item in going), "found": [item.as_json() for item in found]})


@click.command()
@click.argument("name")
@click.argument("stage", required=False)
@yes_option
@click.pass_context
def drop(ctx: click.Context, name: str, stage: str | None, yes: bool) -> None:
    """Remove a name's features, or those of one stage, with their length manifests; runs and the sample manifest stay."""
    from pipeline.cache.upkeep.drop import drop as remove
    from pipeline.machine import shown_size

    found = remove(folder_home_of(ctx), name, stage, yes=yes)
    for item in found:
        click.echo(f"{name}/{item.stage}  {len(item.identities)} identities, {shown_size(item.size)}")
        if item.runs:
            click.echo(f"  runs trained on it: {', '.join(item.runs)}; evaluate needs it, their reports stay")
        if item.derived:
            click.echo(f"  derived from it and kept: {', '.join(item.derived)}")
    again = " ".join(["signcache drop", name, *([stage] if stage else []), "--yes"])
    click.echo("dropped" if yes else f"nothing is dropped yet; do it with: {again}", err=True)


@click.command()
@click.argument("name", required=False)
@click.argument("stage", required=False)
@click.pass_context
def compact(ctx: click.Context, name: str | None, stage: str | None) -> None:
    """Pack many small shards of what is published into full ones, without rows that no clip has any more."""
    from pipeline.cache.upkeep.compact import compact as pack
    from pipeline.cache.upkeep.places import chosen
    from pipeline.machine import shown_size

    home = folder_home_of(ctx)
    for dataset, each in chosen(home, name, stage):
        packed = pack(home, dataset, each)
        if packed is None:
            click.echo(f"{dataset}/{each}: nothing is published")
        elif packed.before == packed.after and not packed.orphans:
            click.echo(f"{dataset}/{each}: {packed.before} shards, packed already")
        else:
            orphans = f", {packed.orphans} rows of no clip dropped" if packed.orphans else ""
            click.echo(f"{dataset}/{each}: {packed.before} shards -> {packed.after}{orphans}, {shown_size(max(0, packed.freed))} freed")


COMMANDS = (verify, adopt, gc, drop, compact)
