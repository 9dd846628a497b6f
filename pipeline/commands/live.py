"""Live: words as they are signed before a camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import device_option, home_of, json_option, print_json
from pipeline.commands.spotting import gate_options, sentence_options, way_of, writer_of
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.spotting.live.screen import Window
    from pipeline.spotting.live.session import Live


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--source", default="0", show_default=True, help="A camera by its number, a video file (played at its own pace), or rtsp://..."
)
@gate_options
@sentence_options
@click.option("--speak", is_flag=True, help="Say the sentences of --sentence aloud too, by this machine's voice.")
@click.option("--text", is_flag=True, help="Lines in place of a window; by itself where there is no display.")
@device_option
@json_option
@click.pass_context
def live(ctx: click.Context, /, run: Path, source: str, speak: bool, text: bool, as_json: bool, **given: Any) -> None:
    """Say the signs that a camera sees, as soon as they are believed.

    RUN is a run folder or a package. A window shows landmarks, the guess, how sure it is and what was said; q or Ctrl-C ends. Frames that
    come while another is looked at are dropped, never kept waiting. Sentences end where no word is said for 20 frames.
    """
    from pipeline.machine import chosen_device
    from pipeline.runs.packaging.reading import opened
    from pipeline.spotting.live import screen, sources
    from pipeline.spotting.live.session import Live
    from pipeline.spotting.recogniser import Recogniser

    clock, device = sources.WallClock(), chosen_device(given["device"])
    if speak and not given["sentence"]:
        raise UserError("--speak is for sentences; give --sentence rules too")
    speaker = _Speaker(writer_of(given))
    if speak:
        speaker.speak()
    with opened(home_of(ctx), run, of_videos=True) as trained:
        way = way_of(trained.run.folder, given)
        recogniser = Recogniser(trained, device, way.temperature)
        session = Live(recogniser, way, sources.opened(source, clock), clock)
        try:
            _watch(session, speaker, None if text or as_json or not screen.has_display() else screen.Window())
        except KeyboardInterrupt:
            click.echo("", err=True)
        speaker.finish(session.finished())
    if as_json:
        print_json({**session.tally.document(), "sentences": speaker.said})
    else:
        click.echo(_told(session), err=True)


class _Speaker:
    """Sentences, made beside the frames: a language model takes seconds. Each is told as soon as it is there."""

    def __init__(self, write: Callable[[Sequence[str]], str]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.write, self.said = write, list[str]()
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="sentences")
        self.failed: BaseException | None = None
        self.say: Callable[[str], None] | None = None

    def speak(self) -> None:
        """From now on sentences are said aloud too, one after the other; raises UserError where there is no voice."""
        from pipeline.spotting.sentences.voice import voice

        self.say = self.worker.submit(voice).result()  # which is of one thread

    def give(self, words: Sequence[str]) -> None:
        """The words of the next sentence. Raises what went wrong with one before."""
        if self.failed:
            raise self.failed
        if words:
            self.worker.submit(self._make, tuple(words))

    def _make(self, words: Sequence[str]) -> None:
        try:
            sentence = self.write(words)
            if sentence:
                self.said.append(sentence)
                click.echo(sentence, err=True)
                if self.say:
                    self.say(sentence)
        except BaseException as error:
            self.failed = error

    def finish(self, words: Sequence[str]) -> None:
        """The last one; waits for all."""
        self.give(words)
        self.worker.shutdown(wait=True)
        if self.failed:
            raise self.failed


def _watch(session: Live, speaker: _Speaker, window: Window | None) -> None:
    """Until the source ends, or somebody ends the window."""
    moments = session.moments()
    try:
        for moment in moments:
            speaker.give(moment.sentence)
            if moment.is_new:
                word = session.tally.words[-1]
                click.echo(f"{word.at:7.2f} s  {word.label} {word.probability:.1%}", err=True)
            if window and not window.show(session, moment, speaker.said[-1] if speaker.said else ""):
                return
    finally:
        moments.close()
        if window:
            window.close()


def _told(session: Live) -> str:
    tally = session.tally
    late = f"latency {1000 * tally.latency(50):.0f} ms a frame, {1000 * tally.latency(99):.0f} ms at most of 99 %"
    return f"{tally.seen} frames seen, {tally.dropped} dropped; {late}; {len(tally.glosses)} glosses"


COMMANDS = (live,)
