"""Sentences said aloud by this machine's own voice, through pyttsx3: eSpeak NG on Linux, and what Windows and macOS bring."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import UserError


def voice() -> Callable[[str], None]:
    """What says a text aloud and comes back when it is said, of one thread. Raises UserError where this machine has no voice."""
    try:
        import pyttsx3
    except ImportError as error:
        raise UserError("--speak needs pyttsx3: pip install -e '.[speech]', or leave --speak out") from error
    try:
        engine = pyttsx3.init()
    except (OSError, RuntimeError, ImportError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"--speak finds no voice here ({reason}); on Debian: apt-get install espeak-ng, or leave --speak out") from error

    def say(text: str) -> None:
        engine.say(text)
        engine.runAndWait()

    return say
