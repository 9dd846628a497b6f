"""Between the stages: train the network of an extractor."""

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


COMMANDS = (finetune,)
