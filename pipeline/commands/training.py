"""Stage two: train, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import device_option, home_of, json_option, pairs, print_json, root_option, settings_option


@click.command()
@click.argument("name")
@click.argument("model")
@settings_option
@root_option
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
@click.option(
    "--stale", type=click.Choice(["refuse", "allow"]), default="refuse", show_default=True, help="Read features of an older stage."
)
@click.option("--allow-missing", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Go on without up to N clips.")
@click.option("--again", is_flag=True, help="Train anew though the same run is finished.")
@json_option
@click.pass_context
def train(ctx: click.Context, /, name: str, model: str, settings: tuple[str, ...], root: Path | None, as_json: bool, **given: Any) -> None:
    """Train a model from the cache, score it, and write its report."""
    from pipeline import manifest, report
    from pipeline.training import train as run

    home = home_of(ctx)
    is_bound = (home.manifests / f"{name}.json").exists()
    table = manifest.bind(home, name, root=root) if root or not is_bound else manifest.read(home, name)
    trained = run(home, table, model, pairs(settings), **given)
    page = report.write(trained)
    _scored(trained, page, as_json)


def _scored(trained: Any, page: Path, as_json: bool) -> None:
    from pipeline.show import print_scores

    print_scores(trained, page)
    if as_json:
        print_json({**trained.scores, "run": str(trained.folder), "report": str(page)})


def _run_folder(text: str) -> Path:
    return Path(text).absolute()


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="[default: the split that the run was scored on]")
@json_option
@click.pass_context
def evaluate(ctx: click.Context, run: str, split: str | None, as_json: bool) -> None:
    """Score a run on a split, from the published features."""
    from pipeline.show import scores_line
    from pipeline.training import evaluate as score

    result = score(home_of(ctx), _run_folder(run), split)
    click.echo(scores_line(result), err=as_json)
    if as_json:
        print_json(result)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def report(runs: tuple[str, ...]) -> None:
    """Write the report page of runs again and print where it is."""
    from pipeline import report as reporting
    from pipeline import runs as store

    for run in runs:
        click.echo(reporting.write(store.read(_run_folder(run))))


COMMANDS = (train, evaluate, report)
