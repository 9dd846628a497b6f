"""Stage two: train, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import (
    allow_missing_option,
    device_option,
    home_of,
    json_option,
    pairs,
    print_json,
    root_option,
    settings_option,
    stale_option,
    threads_option,
)

if TYPE_CHECKING:
    from pipeline.corpus.manifest import Home


@click.command()
@click.argument("name")
@click.argument("model")
@settings_option
@root_option
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--folds", type=int, metavar="K", help="Score every clip of train and val once, by models of the other folds of K.")
@device_option
@threads_option
@click.option("--devices", "count", type=click.IntRange(min=1), metavar="N", help="Train on N devices, in a process each. [default: 1]")
@stale_option
@allow_missing_option
@click.option("--again", is_flag=True, help="Train anew though the same run is finished.")
@click.option("--log", "log", type=click.Choice(["mlflow"]), help="Log to MLflow, in the cache unless MLFLOW_TRACKING_URI says where.")
@json_option
@click.pass_context
def train(ctx: click.Context, /, name: str, model: str, settings: tuple[str, ...], root: Path | None, as_json: bool, **given: Any) -> None:
    """Train a model from the cache, score it, and write its report."""
    from pipeline.learning import devices

    home = home_of(ctx)
    with devices.joined(given.pop("count"), given["device"]):
        from pipeline.corpus import manifest
        from pipeline.reports.printed import print_apart
        from pipeline.runs import tracking
        from pipeline.runs.training import train as run

        if given.pop("log"):
            tracking.ask(home)
        devices.once(lambda: bind(home, name, root))
        table = manifest.read(home, name)
        devices.once(lambda: print_apart(table))
        trained = run(home, table, model, pairs(settings), **given)
        page = devices.once(lambda: reported(home, trained))
        _scored(trained, page, as_json)


def bind(home: Home, name: str, root: Path | None) -> None:
    """Bind a name that has a root now, or none yet."""
    from pipeline.corpus import manifest

    if root or not manifest.is_bound(home, name):
        manifest.bind(home, name, root=root)


def reported(home: Home, trained: Any) -> Path:
    """The page of a run, and before it those of its folds."""
    from pipeline.reports import report
    from pipeline.reports.attention import attentions
    from pipeline.reports.explaining.worst import errors
    from pipeline.runs import journal, run_folder
    from pipeline.runs.crossvalidation import fold_folders

    for fold in fold_folders(trained):
        report.write(run_folder.read(fold))
    page = report.write(trained, attentions(home, [trained])[0], errors(home, trained))
    journal.finish(trained, page)
    return page


def _scored(trained: Any, page: Path, as_json: bool) -> None:
    from pipeline.reports.printed import print_scores

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
    """Score a run, or a package of one, on a split, from the published features."""
    from pipeline.reports.printed import scores_line
    from pipeline.runs.packaging.reading import run_at
    from pipeline.runs.training import evaluate as score

    with run_at(run) as folder:
        result = {**score(home_of(ctx), folder, split), "run": str(_run_folder(run))}
    for line in result.get("warnings", ()):
        click.echo(line, err=True)
    click.echo(scores_line(result), err=as_json)
    if as_json:
        print_json(result)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.pass_context
def report(ctx: click.Context, runs: tuple[str, ...]) -> None:
    """Write the report page of each run again and, of several, one that compares them; print where they are."""
    from pipeline.reports import comparison
    from pipeline.reports import report as reporting
    from pipeline.reports.attention import attentions
    from pipeline.reports.printed import comparison_lines
    from pipeline.runs import run_folder as store

    home, found = home_of(ctx), [store.read(_run_folder(run)) for run in runs]
    compared = comparison.compare(found) if len(found) > 1 else []
    for run in found:
        click.echo(reporting.write(run, attentions(home, [run])[0]))
    if compared:
        page = comparison.write(home, compared, attentions(home, found))
        click.echo("\n".join([*comparison_lines(compared), str(page)]))


COMMANDS = (train, evaluate, report)
