"""What leaves the checkout: packages of runs."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.options import home_of


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--licence", default="", metavar="NAME", help="Of the trained weights, as in CC-BY-4.0; its card says it.")
@click.pass_context
def package(ctx: click.Context, run: Path, out: Path, licence: str) -> None:
    """Put a run and all that labels clips with it into one folder, or one zip where OUT ends in .zip.

    `signcache predict OUT clip.mp4` then works on any machine with signcache, without the corpus and the cache of the training.
    """
    from pipeline.machine import shown_size
    from pipeline.runs.packaging import writing

    click.echo(f"{out}: {shown_size(writing.write(home_of(ctx), run, out, licence=licence))}")


COMMANDS = (package,)
