"""Train on what was trained: the network of an extractor, and the last layer of a run for one signer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    threads_option,
)

EXIT_FAILURES = 1


@click.command()
@click.argument("name")
@click.argument("stage")
@settings_option
@root_option
@click.option("--depth", metavar="head|N|all", help="What learns: a head, the N last blocks of the network too, or all.  [default: all]")
@click.option("--model", default="finetuned", show_default=True, help="What trains it: finetuned, or finetuned_generator by a sensor.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--folds", type=int, metavar="K", help="One network for each of K folds of train and val, which never saw that fold.")
@device_option
@threads_option
@click.option("--devices", "count", type=click.IntRange(min=1), metavar="N", help="Train on N devices, in a process each. [default: 1]")
@click.option("--max-memory", metavar="SIZE", help="Take at most so much of the device, as in 5G; batches are computed in parts.")
@allow_missing_option
@click.option("--again", is_flag=True, help="Train anew though the same run is finished.")
@json_option
@click.pass_context
def finetune(
    ctx: click.Context, /, name: str, stage: str, settings: tuple[str, ...], root: Path | None, as_json: bool, **given: Any
) -> None:
    """Train the network of a stage with a head on the clips; `extract --set weights=run:RUN` then uses it."""
    from pipeline.learning import devices

    home = home_of(ctx)
    with devices.joined(given.pop("count"), given["device"]):
        from pipeline.commands.training import bind, reported
        from pipeline.corpus import manifest
        from pipeline.reports.printed import print_scores
        from pipeline.runs.finetuning import finetune as run
        from pipeline.runs.finetuning import weights_of

        depth, most = given.pop("depth"), given.pop("max_memory")
        chosen = {**pairs(settings), **({"depth": depth} if depth else {})}
        devices.once(lambda: bind(home, name, root))
        trained = run(home, manifest.read(home, name), stage, chosen, max_memory=size_of(most) if most else None, **given)
        page = devices.once(lambda: reported(home, trained))
        print_scores(trained, page)
        files = [str(file) for file in weights_of(trained)]
        if as_json:
            print_json({**trained.scores, "run": str(trained.folder), "weights": files[0] if len(files) == 1 else files})
        else:
            click.echo("\n".join(f"weights: {file}" for file in files))


def size_of(text: str) -> int:
    """Bytes of `5G`, `500M` or `5GiB`."""
    from dask.utils import parse_bytes

    from pipeline.errors import UserError

    try:
        found = int(parse_bytes(text))
    except ValueError as error:
        raise UserError(f"--max-memory {text!r} is no size; as in 5G, 500M or 5GiB") from error
    if found < 1:
        raise UserError(f"--max-memory {text!r}: a training needs some memory; as in 5G")
    return found


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("places", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "--strength", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Larger holds on to the run more."
)
@device_option
@threads_option
@json_option
@click.pass_context
def personalise(ctx: click.Context, /, run: Path, places: tuple[Path, ...], as_json: bool, **given: Any) -> None:
    """Adapt a run to one signer by a few of their clips, in folders that are called by their labels.

    Only the last layer changes. Makes a run of its own, which says what that was worth: each clip is scored by a layer that learned from
    the others. Exit status 1 where a clip could not be read.
    """
    from pipeline.commands.training import reported
    from pipeline.runs.personal.personalise import personalise as adapted

    home = home_of(ctx)
    found = adapted(home, run, places, **given)
    page = reported(home, found.run)
    for clip, reason in found.failed.items():
        click.echo(f"{clip}  failed: {reason}", err=True)
    if as_json:
        print_json({**found.run.scores, "report": str(page), "failed": found.failed})
    else:
        click.echo(f"run: {found.run.folder}")
    if found.failed:
        ctx.exit(EXIT_FAILURES)


COMMANDS = (finetune, personalise)
