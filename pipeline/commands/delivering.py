"""What leaves the checkout: packages of runs, their networks in formats of other programs, and answers to uploads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import device_option, home_of, json_option, print_json, stale_option
from pipeline.commands.spotting import sentence_options, way_of, writer_of

AS_CALIBRATED = {"gate": None, "threshold": None, "window": None, "stride": 1}
LANDMARKS_HELP = "Let the page make landmarks in the browser, so that no picture is sent: where npm put @mediapipe/holistic."
ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


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


@click.command("export-model")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["onnx", "torchscript", "litert"]), default="onnx", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE")
@click.option("--half", is_flag=True, help="Keep weights as float16: half the size. What is computed stays float32.")
@click.option("--quantize", type=click.Choice(["int8"]), help="Keep weights as int8, of onnx: a quarter of the size.")
@json_option
@click.pass_context
def export_model(ctx: click.Context, run: Path, form: str, out: Path, half: bool, quantize: str | None, as_json: bool) -> None:
    """Write a run's or a package's network for other programs, with classes and settings of its stages inside.

    Rows and lengths of each stage go in, of any number of clips and rows; logits of the classes come out. Clips of the run are labelled
    by the file too, and must get the same labels, and logits within 1e-4 of the largest; with --half or --quantize this is only told.
    """
    from pipeline.machine import shown_size
    from pipeline.runs.exporting.export import export, tensorrt_line

    found, _ = export(home_of(ctx), run, out, form, half=half, quantize=quantize)
    click.echo(f"{out}: {shown_size(out.stat().st_size)}; {found.line()}", err=as_json)
    if form == "onnx" and not quantize:
        click.echo(f"for TensorRT, where it is installed: {tensorrt_line(out)}", err=True)
    if as_json:
        print_json({"file": str(out.absolute()), "format": form, "bytes": out.stat().st_size, **asdict(found)})


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets in whoever reaches this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 is any that is free.")
@click.option("--max-mb", type=ABOVE_ZERO, default=64, show_default=True, help="Of an upload.")
@click.option("--max-seconds", type=ABOVE_ZERO, default=60, show_default=True, help="Of a clip; ten times as long may be spotted in.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=3840 * 2160, show_default=True, help="Of a frame.")
@click.option("--deadline", "deadline_seconds", type=ABOVE_ZERO, default=60, show_default=True, metavar="SECONDS")
@click.option("--waiting", type=click.IntRange(min=1), default=32, show_default=True, help="Uploads at a time; more get status 429.")
@click.option("--keep", is_flag=True, help="Keep rows of uploads in the cache, so that clips are found again after the end too.")
@sentence_options
@click.option("--landmarks", type=click.Path(path_type=Path), metavar="DIR", help=LANDMARKS_HELP)
@stale_option
@device_option
@click.pass_context
def serve(ctx: click.Context, /, run: Path, host: str, port: int, max_mb: float, **given: Any) -> None:
    """Label uploads over HTTP with a run or a package, until Ctrl-C: POST /predict and /spot, WS /live; GET /openapi.json says all.

    Says one line when it is ready, with the address of a page for people: camera, clips, and long videos with signs that can be moved and
    asked again. It has no passwords and no TLS: beyond this machine put it behind what has, for browsers give cameras to https only.
    """
    try:
        from pipeline.serving.server import Manner, serve
        from pipeline.serving.uploads import Limits
    except ImportError as error:
        from pipeline.errors import UserError

        raise UserError(f"a server needs {error.name}, which is not installed; run: pip install 'signcache[serve]'") from error

    write = writer_of(given)
    how = {name: given.pop(name) for name in ("keep", "stale", "device", "landmarks")}
    sentence, _ = given.pop("sentence"), given.pop("context")
    manner = Manner(lambda folder: way_of(folder, AS_CALIBRATED), host, port, write=write if sentence else None, **how)
    serve(home_of(ctx), run, manner, Limits(max_bytes=int(max_mb * 1e6), **given), click.echo)


COMMANDS = (package, export_model, serve)
