"""Stage one: manifest, plan, extract, status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import (
    device_option,
    home_of,
    json_option,
    pairs,
    print_json,
    root_option,
    sample_option,
    settings_option,
    threads_option,
    trust_option,
)

if TYPE_CHECKING:
    from pipeline.cache.stage import Stage
    from pipeline.corpus.manifest import Home, Manifest
    from pipeline.corpus.media import States

EXIT_FAILURES = 1


@click.command("manifest")
@click.argument("name")
@click.option("--corpus", help="Kind of corpus, a file of pipeline/datasets [default: NAME].")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the corpus [default: data/NAME].")
@click.option("--split", help="official, signer, stratified, or what the corpus declares [default: the first of these that it allows].")
@click.option("--seed", type=int, help="Seed of the split [default: 0].")
@click.option("--may-lack", multiple=True, metavar="MODALITY", help="Clips without it are no failures; '' forgets. Repeats.")
@click.pass_context
def manifest_command(ctx: click.Context, /, name: str, **asked: Any) -> None:
    """Bind NAME to a corpus and list its clips."""
    from pipeline.corpus import manifest
    from pipeline.reports.printed import print_absent, print_apart, print_crossing, print_lacking, print_unlearned

    table = manifest.bind(home_of(ctx), name, **asked)
    click.echo(f"{name}: {manifest.summary(table)}")
    print_apart(table)
    print_absent(table)
    missing = manifest.missing_files(table)
    if missing:
        click.echo(f"warning: {len(missing)} expected files are missing, first {missing[0]}; their clips will fail", err=True)
    print_lacking(table)
    print_crossing(table)
    print_unlearned(table)


@click.command()
@click.argument("name")
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@settings_option
@root_option
@click.option("--as", "second_name", default="", metavar="NAME", help="A second name for the stage.")
@json_option
@click.pass_context
def plan(
    ctx: click.Context, name: str, stages: tuple[str, ...], settings: tuple[str, ...], root: Path | None, second_name: str, as_json: bool
) -> None:
    """Say what extract would do and why; reads no media."""
    from pipeline.corpus import manifest
    from pipeline.extraction import by_fold
    from pipeline.extraction import plan as planning
    from pipeline.extraction.estimate import estimates

    table = manifest.bind(home_of(ctx), name, root=root)
    given = pairs(settings)
    wanted = by_fold.chosen(home_of(ctx), table, stages, given, second_name)
    plans = planning.plan(home_of(ctx), table, wanted)
    costs = estimates(home_of(ctx), table, plans)
    if as_json:
        parts = {stage: result.as_json() for stage, result in plans.items()}
        print_json({"dataset": name, "stages": parts, "estimates": {stage: cost.as_json() for stage, cost in costs.items()}})
    else:
        from pipeline.reports.printed import plan_lines, print_absent, print_apart

        print_apart(table)
        if not stages:
            print_absent(table, given)
        click.echo("\n".join(plan_lines(plans, costs)))


@click.command()
@click.argument("name")
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@settings_option
@root_option
@click.option("--as", "second_name", default="", metavar="NAME", help="A second name for the stage.")
@click.option("--store", default="zarr", show_default=True, help="File format of new shards, a file of pipeline/stores.")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Local worker processes; 0 is this process.")
@click.option("--scheduler", default="", metavar="ADDRESS|FILE", help="Workers of a Dask scheduler: tcp://..., or the file that it wrote.")
@device_option
@threads_option
@click.option("--limit", type=click.IntRange(min=1), help="Extract at most N clips of each stage.")
@click.option("--only", multiple=True, metavar="ID", help="Extract only this clip. Repeats.")
@click.option("--retry-failed", is_flag=True, help="Try clips again that failed before.")
@click.option(
    "--deadline",
    "deadline_seconds",
    type=click.IntRange(1, 1_000_000),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Give up a clip when nothing of it moves for so long.",
)
@click.option("--remote", metavar="URL", help="First take what this folder or s3://bucket/prefix has of today's stages.")
@sample_option
@trust_option
@click.option("--rehash", is_flag=True, help="Read every clip again to find bytes that changed under the same size and time.")
@json_option
@click.pass_context
def extract(ctx: click.Context, /, name: str, stages: tuple[str, ...], root: Path | None, as_json: bool, **given: Any) -> None:
    """Fill the cache: run the stages on every clip whose features are missing or stale, and publish them."""
    from pipeline import registry
    from pipeline.corpus import manifest
    from pipeline.errors import UserError
    from pipeline.extraction import by_fold
    from pipeline.extraction import plan as planning
    from pipeline.extraction.estimate import estimates
    from pipeline.reports.printed import outcome_lines, plan_lines, print_absent, print_apart, print_untrained

    registry.find("store", given["store"])
    if given["scheduler"] and given["workers"]:
        raise UserError("--workers starts processes here and --scheduler takes those of a cluster: give one of them")
    home = home_of(ctx)
    table = manifest.bind(home, name, root=root)
    settings = pairs(given.pop("settings"))
    sharing = {key: given.pop(key) for key in ("remote", "sample", "is_trusted")}
    wanted = by_fold.chosen(home, table, stages, settings, given.pop("second_name"))
    states: dict[str, States] = {}
    before = planning.plan(home, table, wanted, retry_failed=given["retry_failed"], states=states)
    print_apart(table)
    if not stages:
        print_absent(table, settings)
    lines = plan_lines(before, estimates(home, table, before))
    click.echo("\n".join(lines), err=True)
    print_untrained(before)
    from pipeline.extraction.extract import Options, Outcome
    from pipeline.extraction.extract import extract as run
    from pipeline.extraction.log import logged
    from pipeline.extraction.progress import Progress

    outcome, after = Outcome(), before
    if given["rehash"] or given["only"] or any(result.needs_work for result in before.values()):
        with logged(home, name, lines) as log:
            if sharing["remote"]:
                taken = _read_through(home, table, wanted, sharing, given)
                log.add(*taken)
                click.echo("\n".join(taken), err=True)
            outcome = run(home, table, wanted, Options(**given), Progress(), states)
            after = planning.plan(home, table, wanted, states=states)
            log.add(*outcome_lines(outcome, after, failures=sum(map(len, outcome.failed.values()))))
    if as_json:
        parts = {stage: result.as_json() for stage, result in after.items()}
        print_json({"dataset": name, "extracted": outcome.extracted, "stages": parts})
    click.echo("\n".join(outcome_lines(outcome, after)), err=True)
    if any(outcome.failed.values()):
        ctx.exit(EXIT_FAILURES)


def _read_through(home: Home, table: Manifest, stages: list[Stage], sharing: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """A line for each stage on what a remote had of it, which is in the cache now."""
    from pipeline.objects import opened
    from pipeline.remote.pull import Trust, pull_all
    from pipeline.reports.printed import pulled_lines

    trust = Trust.of(sharing["sample"], is_trusted=sharing["is_trusted"], device=given["device"])
    return [*pulled_lines(pull_all(home, table, stages, opened(sharing["remote"]), trust, given["only"]), {})]


@click.command()
@click.argument("name", required=False)
@click.option("--health", "looks", is_flag=True, help="Look for NaN, constant rows and empty parts in what is published.")
@json_option
@click.pass_context
def status(ctx: click.Context, name: str | None, looks: bool, as_json: bool) -> None:
    """What is published, fresh, stale and failed; of every bound name if none is given."""
    from pipeline.corpus import manifest
    from pipeline.errors import UserError
    from pipeline.extraction import plan as planning
    from pipeline.extraction.sharing.working import working
    from pipeline.reports.looking.health import health
    from pipeline.reports.looking.health import line as health_line
    from pipeline.reports.printed import print_status

    home = home_of(ctx)
    names = [name] if name else sorted(path.stem for path in home.manifests.glob("*.json"))
    if not names:
        raise UserError("no name is bound yet; run: signcache manifest NAME --corpus folder --root DIR, or: make demo")
    documents = []
    for each in names:
        table = manifest.read(home, each)
        plans = planning.plan(home, table, planning.wanted_stages(home, table, (), {}))
        healths = {stage: found for stage in plans if looks and (found := health(home, each, stage))}
        parts = {stage: planning.status_json(result) for stage, result in plans.items()}
        for stage, found in healths.items():
            parts[stage]["health"] = found
        at_work = working(home, each)
        runs = {stage: [run.as_json() for run in found] for stage, found in at_work.items()}
        documents.append({"dataset": each, "stages": parts, "runs": runs})
        if not as_json:
            print_status(table, plans, {stage: health_line(found) for stage, found in healths.items()}, at_work)
    if as_json:
        print_json(documents[0] if name else documents)


COMMANDS = (manifest_command, plan, extract, status)
