"""The command line: `signcache [--cache DIR] [--manifests DIR] COMMAND ...`."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pipeline import __version__
from pipeline.commands import (
    delivering,
    explaining,
    extracting,
    finetuning,
    importing,
    live,
    looking,
    predicting,
    sharing,
    spotting,
    training,
    tuning,
    upkeep,
)
from pipeline.machine import wait_briefly

EXIT_USER, EXIT_INTERRUPTED = 2, 130
SECTIONS = {
    "Stage one, from clips to features": (extracting, importing, sharing),
    "Stage two, from features to models": (training, finetuning, tuning, predicting, delivering),
    "Stage two in use": (spotting, live),
    "Looking and caring": (looking, explaining, upkeep),
}


class _Cli(click.Group):
    """Turns what a user can cause into one line on stderr and an exit status; lists the commands in the order of the work."""

    stopped_with = 0
    """The exit status of what a signal ended."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, topics in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(str(c.name), c.get_short_help_str(limit=1000)) for topic in topics for c in topic.COMMANDS])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Without `args`, this is a process of its own, which says how it ended: see `_leave`."""
        if args is None:
            atexit.register(self._leave)
        return super().main(args, *rest, **extra)

    def _leave(self) -> None:
        """Ctrl-C that came while a class was made from text, as `dataclass` does, would end Python by the signal though it was answered."""
        if self.stopped_with:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.stopped_with)

    def invoke(self, ctx: click.Context) -> Any:
        from pipeline.errors import Terminated, UserError

        try:
            return super().invoke(ctx)
        except UserError as error:
            _tell(f"signcache: {error}")
            ctx.exit(EXIT_USER)
        except KeyboardInterrupt as error:
            word, self.stopped_with = ("terminated", error.status) if isinstance(error, Terminated) else ("interrupted", EXIT_INTERRUPTED)
            _tell(f"\nsigncache: {word}; finished clips are kept. Go on with: signcache {shlex.join(sys.argv[1:])}")
            ctx.exit(self.stopped_with)
        finally:  # all is done: Ctrl-C while Python takes itself apart would end it by the signal
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _tell(line: str) -> None:
    """On stderr; of several processes that end so, one says it."""
    from pipeline.learning import devices

    if devices.may_speak():
        click.echo(line, err=True)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="signcache")
@click.option("--cache", help="Folder of features and runs, or s3://bucket/prefix [default: cache/ of the checkout].")
@click.option("--manifests", type=click.Path(path_type=Path), help="Folder of sample and length tables [default: manifests/].")
@click.pass_context
def main(ctx: click.Context, cache: str | None, manifests: Path | None) -> None:
    """Train sign-language and gesture recognisers on cached features; rebuild only what changed."""
    wait_briefly()
    gc.set_threshold(100_000, 20, 100)  # large tables hold no cycles: looking for some takes a tenth of a run with nothing to do
    ctx.obj = (cache, manifests)


for topic in itertools.chain.from_iterable(SECTIONS.values()):
    for command in topic.COMMANDS:
        main.add_command(command)
