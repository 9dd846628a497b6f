"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.corpus.manifest import Home


def home_of(ctx: click.Context) -> Home:
    """The folders given before the command, else the checkout's. What is written into a group's cache is the group's."""
    from pipeline.cache.mirror import folder_of
    from pipeline.corpus.manifest import Home
    from pipeline.machine import share_with_group

    cache, manifests = ctx.obj
    home = Home.at(folder_of(cache), manifests)
    share_with_group(home.cache)
    return Home(home.cache.absolute(), home.manifests.absolute())


def folder_home_of(ctx: click.Context) -> Home:
    """As `home_of`, for what looks after a folder; raises UserError where the cache lies in a bucket."""
    from pipeline.errors import UserError

    cache = str(ctx.obj[0] or "")
    if "://" in cache:
        raise UserError(f"{ctx.info_name} looks after a cache in a folder, and {cache} is none; name one: --cache DIR")
    return home_of(ctx)


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="[STAGE.]K=V",
    help="A field's value; empty forgets one. Repeats. settings=published: those of the corpus' source.",
)
root_option = click.option(
    "--root", type=click.Path(path_type=Path), help="Folder of the corpus, as if `manifest NAME --root DIR` came first."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, everything else on stderr.")
stale_option = click.option(
    "--stale", type=click.Choice(["refuse", "allow"]), default="refuse", show_default=True, help="Read features of an older stage."
)
allow_missing_option = click.option(
    "--allow-missing", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Go on without up to N clips."
)
sample_option = click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="K",
    help="Of each shard of a remote, clips extracted again to try it [default: 4].",
)
trust_option = click.option("--trust", "is_trusted", is_flag=True, help="Try no rows of a remote: right checksums are enough.")
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)


def _set_threads(ctx: click.Context, parameter: click.Parameter, number: int | None) -> None:
    """For this process, where torch is there already too, and for those that it starts."""
    if number is not None:
        os.environ["OMP_NUM_THREADS"] = str(number)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(number)


threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    expose_value=False,
    callback=_set_threads,
    metavar="N",
    help="Processor threads a process computes with [default: OMP_NUM_THREADS, else all; 1 is faster for small models beside other work].",
)


def pairs(settings: Sequence[str]) -> dict[str, str]:
    """`{k: v}` of repeated `--set k=v`."""
    from pipeline.errors import UserError

    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UserError(f"--set {setting!r}: expected K=V, as in --set max_frames=60")
        pairs[key] = value
    return pairs


def print_json(content: Any) -> None:
    """The one JSON document of a command, as the last line of stdout."""
    import json

    click.echo(json.dumps(content, ensure_ascii=True))
