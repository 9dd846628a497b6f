"""Import: features that other programs made."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.options import home_of, json_option, print_json

SHOWN = 3


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
@json_option
@click.pass_context
def import_command(ctx: click.Context, name: str, stage: str, source: Path, form: str, as_json: bool) -> None:
    """Publish features in SRC as STAGE of NAME, without extracting anything; a new NAME gets its clips from SRC."""
    from pipeline.formats import import_rows

    done = import_rows(home_of(ctx), name, stage, source.absolute(), form)
    if as_json:
        print_json({"dataset": name, "stage": stage, "digest": done.digest, "clips": done.clips, "rows": done.rows})
    else:
        click.echo(f"{name}/{stage}: {done.clips} clips imported, {done.rows} rows of {done.row_shape}")
    for ids in done.twins[:SHOWN]:
        click.echo(f"warning: {' = '.join(ids[:SHOWN])} have the same rows", err=True)
    if len(done.twins) > SHOWN:
        click.echo(f"warning: and {len(done.twins) - SHOWN} more groups of clips with the same rows", err=True)
    if done.lacking:
        click.echo(f"warning: {len(done.lacking)} clips of {name} were not in {source.name}, first {done.lacking[0]!r}", err=True)


COMMANDS = (import_command,)
