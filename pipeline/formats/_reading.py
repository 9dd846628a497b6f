"""Any source as clips: what every format is held to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline import registry
from pipeline.corpus.media import composed
from pipeline.errors import ClipError, UserError
from pipeline.formats._clips import Format, Incoming


def clips_of(source: Path, form: str) -> Iterator[Incoming]:
    """The clips in `source`, one after the other, in a stable order; raises UserError where it is not of this form."""
    if not source.exists():
        raise UserError(f"{source} does not exist")
    found_format: Format = registry.create("format", form)
    if found_format.read is None:
        raise UserError(f"{form!r} is written by `signcache export` only; what is read: {', '.join(readable())}")
    found = False
    try:
        for number, clip in enumerate(found_format.read(source)):
            found = True
            for name in clip.ids:
                if not name or "\0" in name:
                    raise UserError(f"{source}: clip {number} has the id {name!r}; expected one character or more, and no NUL")
            label, signer = (text and composed(text) for text in (clip.label, clip.signer))
            yield replace(clip, ids=tuple(map(composed, clip.ids)), label=label, signer=signer)
    except ClipError as error:
        raise UserError(f"{source}: {error}") from error
    if not found:
        raise UserError(f"{source} holds no clips of the form {form!r}")


def readable() -> list[str]:
    """The formats that are read."""
    return [name for name in registry.names("format") if registry.find("format", name).read]
