"""The everyday commands around the cache: show, export, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.options import home_of, json_option, print_json

if TYPE_CHECKING:
    from pipeline.cache.publishing import Features
    from pipeline.corpus.manifest import Home, Manifest
    from pipeline.types import Stale

SHOWN = 3
EXIT_MISSING = 1
stale_option = click.option(
    "--stale", type=click.Choice(["refuse", "allow"]), default="refuse", show_default=True, help="Read features of an older stage."
)


def _opened(home: Home, name: str, stage: str, stale: Stale) -> tuple[Manifest, Features]:
    from pipeline.cache import open_stage
    from pipeline.corpus import manifest

    return manifest.read(home, name), open_stage(name, stage, cache=home.cache, manifests=home.manifests, stale=stale)


@click.command()
@click.argument("name")
@click.argument("stage")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    default="npy",
    show_default=True,
    help="npy: a file a clip; zarr, hdf5: one (N, T, ...) array with lengths, ids and labels; lengths: the LIS system's tables.",
)
@stale_option
@click.pass_context
def export(ctx: click.Context, name: str, stage: str, out: Path, form: str, stale: Stale) -> None:
    """Write the published features of a stage to OUT for other programs."""
    from pipeline.formats import export as write
    from pipeline.machine import shown_size

    made = write(*_opened(home_of(ctx), name, stage, stale), out, form)
    click.echo(f"{out}: {made.clips} clips, {shown_size(made.size)}")
    if made.missing:
        named = ", ".join(map(repr, made.missing[:SHOWN])) + (", ..." if len(made.missing) > SHOWN else "")
        click.echo(f"{len(made.missing)} clips have no features and are left out: {named}; see: signcache status {name}", err=True)


@click.command()
@click.argument("name")
@click.argument("stage")
@click.argument("clip", metavar="ID")
@click.option("--picture", type=click.Path(path_type=Path), metavar="OUT.png", help="Write the chosen frames as a contact sheet.")
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, stage: str, clip: str, picture: Path | None, as_json: bool) -> None:
    """What a clip's features were made from, where they lie, and what they look like."""
    from pipeline.reports.looking import sheet, words
    from pipeline.reports.looking.clip import look

    seen = look(home_of(ctx), name, stage, clip)
    if as_json:
        print_json(seen.as_json())
    else:
        click.echo("\n".join(words.lines(seen)))
    if picture:
        count = sheet.write(picture, seen.files, seen.frames, f"{name}/{seen.root} {clip!r}", seen.modality)
        click.echo(f"{picture}: {count} frames", err=True)


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """What this machine has and lacks; exit status 1 where something needed is missing."""
    from dataclasses import asdict

    from pipeline.reports.looking.doctor import examine

    found = examine(home_of(ctx))
    for item in found:
        remedy = f"; {item.remedy}" if item.remedy else ""
        click.echo(f"{item.state:<8} {item.what:<22} {item.detail}{remedy}", err=as_json)
    missing = [item.what for item in found if item.state == "missing"]
    if as_json:
        print_json({"missing": missing, "found": [asdict(item) for item in found]})
    if missing:
        click.echo(f"missing: {', '.join(missing)}", err=True)
        ctx.exit(EXIT_MISSING)


COMMANDS = (show, export, doctor)
