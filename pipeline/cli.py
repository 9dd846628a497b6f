"""The command line. Commands import what they need when they run, so that `--help` is instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import __version__

if TYPE_CHECKING:
    from pipeline.manifest import Home, Manifest

EXIT_FAILURES, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


class _Cli(click.Group):
    """Turns what a user can cause into one line on stderr and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        from pipeline.errors import UserError

        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"signcache: {error}", err=True)
            ctx.exit(EXIT_USER)
        except KeyboardInterrupt:
            line = " ".join(sys.argv[1:])
            click.echo(f"\nsigncache: interrupted; finished clips are kept. Go on with: signcache {line}", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="signcache")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of features and runs [default: cache/ of the checkout].")
@click.option("--manifests", type=click.Path(path_type=Path), help="Folder of sample and length tables [default: manifests/].")
@click.pass_context
def main(ctx: click.Context, cache: Path | None, manifests: Path | None) -> None:
    """Train sign-language and gesture recognisers on cached features; rebuild only what changed."""
    ctx.obj = (cache, manifests)


def _home(ctx: click.Context) -> Home:
    from pipeline.manifest import Home

    cache, manifests = ctx.obj
    default = Home()
    return Home((cache or default.cache).absolute(), (manifests or default.manifests).absolute())


_settings = click.option("--set", "settings", multiple=True, metavar="[STAGE.]K=V", help="A field's value; empty forgets one. Repeats.")
_root = click.option("--root", type=click.Path(path_type=Path), help="Folder of the corpus, as if `manifest NAME --root DIR` came first.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, everything else on stderr.")
_device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    from pipeline.errors import UserError

    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UserError(f"--set {setting!r}: expected K=V, as in --set max_frames=60")
        pairs[key] = value
    return pairs


def _print_json(content: Any) -> None:
    import json

    click.echo(json.dumps(content, ensure_ascii=True))


def _bound(ctx: click.Context, name: str, **asked: Any) -> Manifest:
    """The manifest, its root listed again; told where it changed or where files are missing."""
    from pipeline import manifest

    return manifest.bind(_home(ctx), name, **asked)


@main.command("manifest")
@click.argument("name")
@click.option("--corpus", help="Kind of corpus, a file of pipeline/datasets [default: NAME].")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the corpus [default: data/NAME].")
@click.option("--split", help="official, signer or stratified [default: the first of these that the corpus allows].")
@click.option("--seed", type=int, help="Seed of the split [default: 0].")
@click.pass_context
def manifest_command(ctx: click.Context, name: str, corpus: str | None, root: Path | None, split: str | None, seed: int | None) -> None:
    """Bind NAME to a corpus and list its clips."""
    from pipeline import manifest, splits

    table = _bound(ctx, name, corpus=corpus, root=root, split=split, seed=seed)
    click.echo(f"{name}: {manifest.summary(table)}")
    missing = manifest.missing_files(table)
    if missing:
        click.echo(f"warning: {len(missing)} expected files are missing, first {missing[0]}; their clips will fail", err=True)
    for signer, parts in splits.crossing_signers(table.samples).items():
        click.echo(f"warning: signer {signer} is in {' and '.join(parts)}", err=True)


@main.command()
@click.argument("name")
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@_settings
@_root
@click.option("--as", "second_name", default="", metavar="NAME", help="A second name for the stage.")
@_json
@click.pass_context
def plan(
    ctx: click.Context, name: str, stages: tuple[str, ...], settings: tuple[str, ...], root: Path | None, second_name: str, as_json: bool
) -> None:
    """Say what extract would do and why; reads no media."""
    from pipeline import plan as planning

    table = _bound(ctx, name, root=root)
    wanted = planning.wanted_stages(_home(ctx), table, stages, _pairs(settings), second_name)
    plans = planning.plan(_home(ctx), table, wanted)
    if as_json:
        _print_json({"dataset": name, "stages": {stage: result.as_json() for stage, result in plans.items()}})
    else:
        from pipeline.show import print_plans

        print_plans(plans)


@main.command()
@click.argument("name")
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@_settings
@_root
@click.option("--as", "second_name", default="", metavar="NAME", help="A second name for the stage.")
@click.option("--store", default="zarr", show_default=True, help="File format of new shards, a file of pipeline/stores.")
@_device
@click.option("--limit", type=click.IntRange(min=1), help="Extract at most N clips of each stage.")
@click.option("--only", multiple=True, metavar="ID", help="Extract only this clip. Repeats.")
@click.option("--retry-failed", is_flag=True, help="Try clips again that failed before.")
@click.option("--rehash", is_flag=True, help="Read every clip again to find bytes that changed under the same size and time.")
@_json
@click.pass_context
def extract(ctx: click.Context, name: str, stages: tuple[str, ...], root: Path | None, as_json: bool, **given: Any) -> None:
    """Fill the cache: run the stages on every clip whose features are missing or stale, and publish them."""
    from pipeline import plan as planning
    from pipeline import registry
    from pipeline.show import print_outcome, print_plans, print_untrained

    registry.find("store", given["store"])
    home, table = _home(ctx), _bound(ctx, name, root=root)
    wanted = planning.wanted_stages(home, table, stages, _pairs(given.pop("settings")), given.pop("second_name"))
    before = planning.plan(home, table, wanted, retry_failed=given["retry_failed"])
    print_plans(before, err=True)
    print_untrained(before)
    from pipeline.extract import Options
    from pipeline.extract import extract as run
    from pipeline.progress import Progress

    outcome = run(home, table, wanted, Options(**given), Progress())
    after = planning.plan(home, table, wanted)
    if as_json:
        _print_json(
            {"dataset": name, "extracted": outcome.extracted, "stages": {stage: result.as_json() for stage, result in after.items()}}
        )
    print_outcome(outcome, after)
    if any(outcome.failed.values()):
        ctx.exit(EXIT_FAILURES)


@main.command()
@click.argument("name", required=False)
@_json
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """What is published, fresh, stale and failed; of every bound name if none is given."""
    from pipeline import manifest
    from pipeline import plan as planning
    from pipeline.errors import UserError
    from pipeline.show import print_status

    home = _home(ctx)
    names = [name] if name else sorted(path.stem for path in home.manifests.glob("*.json"))
    if not names:
        raise UserError("no name is bound yet; run: signcache manifest NAME --corpus folder --root DIR, or: make demo")
    documents = []
    for each in names:
        table = manifest.read(home, each)
        plans = planning.plan(home, table, planning.wanted_stages(home, table, (), {}))
        documents.append({"dataset": each, "stages": {stage: planning.status_json(result) for stage, result in plans.items()}})
        if not as_json:
            print_status(table, plans)
    if as_json:
        _print_json(documents[0] if name else documents)


@main.command()
@click.argument("name")
@click.argument("model")
@_settings
@_root
@click.option("--seed", type=int, default=0, show_default=True)
@_device
@click.option(
    "--stale", type=click.Choice(["refuse", "allow"]), default="refuse", show_default=True, help="Read features of an older stage."
)
@click.option("--allow-missing", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Go on without up to N clips.")
@click.option("--again", is_flag=True, help="Train anew though the same run is finished.")
@_json
@click.pass_context
def train(ctx: click.Context, name: str, model: str, settings: tuple[str, ...], root: Path | None, as_json: bool, **given: Any) -> None:
    """Train a model from the cache, score it, and write its report."""
    from pipeline import manifest, report
    from pipeline.training import train as run

    home = _home(ctx)
    table = _bound(ctx, name, root=root) if root or not (home.manifests / f"{name}.json").exists() else manifest.read(home, name)
    trained = run(home, table, model, _pairs(settings), **given)
    page = report.write(trained)
    _scored(trained, page, as_json)


def _scored(trained: Any, page: Path, as_json: bool) -> None:
    from pipeline.show import print_scores

    print_scores(trained, page)
    if as_json:
        _print_json({**trained.scores, "run": str(trained.folder), "report": str(page)})


def _run_folder(text: str) -> Path:
    return Path(text).absolute()


@main.command()
@click.argument("run", metavar="RUN")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="[default: the split that the run was scored on]")
@_json
@click.pass_context
def evaluate(ctx: click.Context, run: str, split: str | None, as_json: bool) -> None:
    """Score a run on a split, from the published features."""
    from pipeline.show import scores_line
    from pipeline.training import evaluate as score

    result = score(_home(ctx), _run_folder(run), split)
    click.echo(scores_line(result), err=as_json)
    if as_json:
        _print_json(result)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def report(runs: tuple[str, ...]) -> None:
    """Write the report page of runs again and print where it is."""
    from pipeline import report as reporting
    from pipeline import runs as store

    for run in runs:
        click.echo(reporting.write(store.read(_run_folder(run))))
