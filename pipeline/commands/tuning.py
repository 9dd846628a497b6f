"""Tune: a search for a model's settings."""

from __future__ import annotations

from typing import Any

import click

from pipeline.commands.options import (
    allow_missing_option,
    device_option,
    home_of,
    json_option,
    pairs,
    print_json,
    settings_option,
    stale_option,
    threads_option,
)


@click.command()
@click.argument("name")
@click.argument("model")
@click.option("--trials", type=click.IntRange(min=1), required=True, metavar="N", help="End after N trials in all, earlier ones counted.")
@settings_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search and of every training in it.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Start no trial after this time.")
@device_option
@threads_option
@stale_option
@allow_missing_option
@json_option
@click.pass_context
def tune(
    ctx: click.Context, /, name: str, model: str, trials: int, settings: tuple[str, ...], timeout: float | None, as_json: bool, **given: Any
) -> None:
    """Search the settings that a model declares, by validation alone, and print the best as a line to type.

    Those of an ensemble are searched together with those of its members. What --set fixes is not searched, nor a member that is a run.
    A search that was interrupted or killed goes on with the same line.
    """
    from dataclasses import asdict

    from pipeline.corpus import manifest
    from pipeline.errors import UserError
    from pipeline.runs.trials import training_line
    from pipeline.runs.tuning import search_for
    from pipeline.runs.tuning import tune as run

    home, fixed = home_of(ctx), pairs(settings)
    search = search_for(home, manifest.read(home, name), model, fixed, **given)
    found = run(search, trials, timeout=timeout, say=lambda line: click.echo(line, err=True))
    best = found.best
    if best is None:
        how = f"all {len(found.trials)} were pruned or diverged" if found.trials else "none was started"
        raise UserError(f"no trial of {name}/{model} ended with a score: {how}; give it more: --trials {len(found.trials) + 10}")
    line = training_line(home, name, model, search.said(fixed, best.settings), given["seed"])
    click.echo(f"best: {best.line(len(found.trials))}; chosen on validation, so only the scored fold says how good it is", err=True)
    click.echo(line, err=as_json)
    if as_json:
        document = {"dataset": name, "model": model, "study": found.study, "storage": str(found.place), "line": line}
        print_json({**document, "best": asdict(best), "trials": [asdict(tried) for tried in found.trials]})


COMMANDS = (tune,)
