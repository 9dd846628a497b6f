"""Import: features that other programs made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import device_option, home_of, json_option, pairs, print_json

SHOWN = 3
TOLERANCE = 1e-3


@click.command("import")
@click.argument("name")
@click.argument("stage")
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    required=True,
    help="npy: a file a clip, with lengths JSON; npz: x, label, sequence; mp_data: a file a frame; dense: one Zarr, HDF5 or npy array.",
)
@click.option("--like", metavar="STAGE", help="The stage that makes the same rows, so that runs trained on these label videos too.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="A field of that stage. Repeats.")
@click.option("--root", type=click.Path(path_type=Path), help="Videos of the clips, <label>/<clip>.mp4, to compare. [default: the corpus']")
@click.option("--sample", type=click.IntRange(min=0), metavar="K", help="Compare K clips. [default: all whose video is there]")
@click.option("--tolerance", type=click.FloatRange(min=0), default=TOLERANCE, show_default=True, help="Of a clip's largest value.")
@device_option
@json_option
@click.pass_context
def import_command(
    ctx: click.Context,
    /,
    name: str,
    stage: str,
    source: Path,
    form: str,
    like: str | None,
    settings: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """Publish features in SRC as STAGE of NAME, without extracting anything; a new NAME gets its clips from SRC."""
    from pipeline.errors import UserError
    from pipeline.formats import Asked, import_rows

    if not like and (settings or given["root"] or given["sample"] is not None):
        raise UserError("--set, --root and --sample tell of the stage that the rows are like; name it: --like STAGE")
    asked = Asked(like, pairs(settings), **given) if like else None
    done = import_rows(home_of(ctx), name, stage, source.absolute(), form, asked)
    if as_json:
        print_json({"dataset": name, "stage": stage, "digest": done.digest, "clips": done.clips, "rows": done.rows})
    else:
        click.echo(f"{name}/{stage}: {done.clips} clips imported, {done.rows} rows of {done.row_shape}")
    for note in done.notes:
        click.echo(note, err=True)
    for ids in done.twins[:SHOWN]:
        click.echo(f"warning: {' = '.join(ids[:SHOWN])} have the same rows", err=True)
    if len(done.twins) > SHOWN:
        click.echo(f"warning: and {len(done.twins) - SHOWN} more groups of clips with the same rows", err=True)
    if done.lacking:
        click.echo(f"warning: {len(done.lacking)} clips of {name} were not in {source.name}, first {done.lacking[0]!r}", err=True)


@click.command("import-run")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name")
@click.argument("model")
@device_option
@json_option
@click.pass_context
def import_run(ctx: click.Context, file: Path, name: str, model: str, device: str, as_json: bool) -> None:
    """Make a run of MODEL on NAME of a checkpoint of the model's source: {"classes", "state_dict"}.

    It is scored where the rows that the source reads are published for NAME, and labels videos either way.
    """
    from pipeline.corpus import manifest
    from pipeline.reports.printed import scores_line
    from pipeline.runs.importing import import_run as run

    home = home_of(ctx)
    made = run(home, manifest.read(home, name), file.absolute(), model, device=device)
    if "top1" in made.scores:
        click.echo(scores_line(made.scores), err=True)
    click.echo(made.folder, err=as_json)
    if as_json:
        print_json({"run": str(made.folder), "dataset": made.dataset, "model": made.model, "classes": made.record["classes"]})


COMMANDS = (import_command, import_run)
