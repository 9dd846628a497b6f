"""A team's shared features: push, pull."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from pipeline.commands.options import device_option, home_of, json_option, pairs, print_json, sample_option, settings_option, trust_option

EXIT_REFUSED = 1


@click.command()
@click.argument("name")
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@click.argument("remote")
@settings_option
@json_option
@click.pass_context
def push(ctx: click.Context, name: str, stages: tuple[str, ...], remote: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Bring finished shards to REMOTE, a folder or s3://bucket/prefix, for others to pull or to `extract --remote`.

    Of the named stages and those that they derive from, else of all that extract would make. Only who has the secret
    SIGNCACHE_REMOTE_KEY in the environment pushes: it signs what it pushed. Without it a remote is read only.
    """
    from pipeline.corpus import manifest
    from pipeline.extraction.plan import wanted_stages
    from pipeline.machine import shown_size
    from pipeline.objects import opened
    from pipeline.remote import names
    from pipeline.remote.push import push as run
    from pipeline.remote.signing import SIGNERS, key

    home, place, signer = home_of(ctx), opened(remote), key()
    table = manifest.read(home, name)
    found = {}
    for stage in wanted_stages(home, table, stages, pairs(settings)):
        if stage.is_imported and stage.name not in stages:
            continue
        pushed = found[stage.name] = run(home, stage, place, signer)
        if stage.upstream is None:
            names.put(home, table, stage, place, signer)
        there = f"; the rows of {pushed.known} shards are there already" if pushed.known else ""
        line = f"{name}/{stage.name}: {pushed.clips} clips in {pushed.shards} shards pushed, {shown_size(pushed.size)}{there}"
        click.echo(line, err=as_json)
    click.echo(f"signed by {signer.signer}; who believes nobody else sets {SIGNERS} to it", err=True)
    if as_json:
        print_json({"dataset": name, "signer": signer.signer, "stages": {stage: asdict(pushed) for stage, pushed in found.items()}})


@click.command()
@click.argument("name")
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@click.argument("remote")
@settings_option
@sample_option
@trust_option
@device_option
@json_option
@click.pass_context
def pull(ctx: click.Context, /, name: str, stages: tuple[str, ...], remote: str, as_json: bool, **given: Any) -> None:
    """Take from REMOTE, and publish, rows of clips that a colleague has extracted, under whatever name and path.

    Rows are found by the stage's identity and by what the clips hold. Each shard is held against its checksums, and a
    sample of its rows against rows extracted here; exit status 1 where a shard is refused. Nothing else is extracted.
    """
    from pipeline.extraction.extract import Options, extract
    from pipeline.extraction.plan import wanted_stages
    from pipeline.extraction.progress import Progress
    from pipeline.objects import opened
    from pipeline.remote.names import bound_here
    from pipeline.remote.pull import Trust, pull_all
    from pipeline.reports.printed import pulled_lines

    home, place = home_of(ctx), opened(remote)
    table = bound_here(home, name, place)
    wanted = [stage for stage in wanted_stages(home, table, stages, pairs(given["settings"])) if not stage.is_imported]
    trust = Trust.of(given["sample"], is_trusted=given["is_trusted"], device=given["device"])
    found = pull_all(home, table, wanted, place, trust)
    outcome = extract(home, table, wanted, Options(limit=0), Progress())
    click.echo("\n".join(pulled_lines(found, outcome.unpublished)), err=as_json)
    if as_json:
        print_json({"dataset": name, "stages": {stage: asdict(pulled) for stage, pulled in found.items()}})
    if any(pulled.refused for pulled in found.values()):
        ctx.exit(EXIT_REFUSED)


COMMANDS = (push, pull)
