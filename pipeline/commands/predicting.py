"""Predict: what a run says of clips without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import device_option, home_of, json_option, print_json, stale_option, threads_option

EXIT_FAILURES = 1


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("places", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(["train", "val", "test"]), help="Its corpus' clips without label. Repeats."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="CSV", help="Write a table; of splits, the corpus' submission file.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Labels to say of each clip.")
@device_option
@threads_option
@stale_option
@json_option
@click.pass_context
def predict(
    ctx: click.Context, /, run: Path, places: tuple[Path, ...], splits: tuple[str, ...], out: Path | None, as_json: bool, **given: Any
) -> None:
    """Label clips: files, folders that hold a clip's files, folders of clips, or what a split of the corpus leaves unlabelled.

    RUN is a run folder or a package. What is not in the cache yet is extracted. Exit status 1 where a clip could not be labelled;
    it is listed with its reason.
    """
    from pipeline.errors import UserError
    from pipeline.runs import predict

    if bool(places) == bool(splits):
        raise UserError("name the clips: files or folders, or else --split test")
    home, stale = home_of(ctx), given.pop("stale")
    if splits:
        found = predict.predict_splits(home, run, list(dict.fromkeys(splits)), **given)
    else:
        found = predict.predict_files(home, run, places, stale=stale, **given)
    if out and splits:
        predict.write_submission(out, predict.corpus_of(home, run), found)
    elif out:
        predict.write_table(out, found)
    if out:
        click.echo(f"{out}: {len(found)} clips", err=True)
    if as_json:
        print_json([each.as_json() for each in found])
    elif not (out and splits):
        click.echo("\n".join(each.line() for each in found))
    failures = [each for each in found if each.reason]
    if failures:
        click.echo(f"{len(failures)} of {len(found)} clips could not be labelled, first {failures[0].id}: {failures[0].reason}", err=True)
        ctx.exit(EXIT_FAILURES)


COMMANDS = (predict,)
