"""Explain: why a run says of a clip what it says."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.options import home_of, json_option, print_json

SHOWN = 5


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("clip", metavar="ID|FILE")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Where the page, picture, film and figures go.")
@click.option("--label", default="", help="Explain this label instead of the likeliest.")
@json_option
@click.pass_context
def explain(ctx: click.Context, run: Path, clip: str, out: Path, label: str, as_json: bool) -> None:
    """Say why a clip gets its label: which part of the body, which moment, which modality, which pixels.

    RUN is a run folder or a package; the clip is one of its corpus or a file, which is extracted.
    """
    from pipeline.reports.explaining.explain import explain as why

    found = why(home_of(ctx), run.absolute(), clip, out.absolute(), label=label)
    if as_json:
        print_json(found)
        return
    share = dict(found["top"]).get(found["label"])
    click.echo(f"{found['clip']}: {found['label']}" + (f" {share:.1%}" if share is not None else ""))
    for row in found["parts"][:SHOWN]:
        click.echo(f"  {row['share']:6.1%}  {row['stage']}: {row['part']}")
    for note in found["notes"]:
        click.echo(f"note: {note}", err=True)
    click.echo(f"page: {found['page']}")


COMMANDS = (explain,)
