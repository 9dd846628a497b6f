"""What a decode process does with one clip: hash it, decode it once, let every stage prepare its items, spool them to disk."""

from __future__ import annotations

import pickle
import resource
import signal
from functools import partial

import numpy as np

from pipeline.cache.identity import refuse_changed
from pipeline.corpus.media import hashed, stat_of
from pipeline.decoding.decode import Clip, decoded
from pipeline.decoding.video import media_errors
from pipeline.errors import ClipError, UserError
from pipeline.extraction.preparing._feed import Feed, phrase
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.extraction.preparing.whole_files import whole_digests, whole_timeline
from pipeline.machine import die_with_parent
from pipeline.types import Frame


def start_decoder(most_bytes: int = 0) -> None:
    """Runs first in every decode process: it dies with its parent, leaves Ctrl-C to it, and takes no more memory than it may."""
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    die_with_parent()


def prepare_sent(sent: bytes) -> Prepared:
    """As `prepare_clip`, of a pickled job: that its stages cannot be imported any more is said as what it is."""
    try:
        job: Job = pickle.loads(sent)  # noqa: S301  # from the process that started this one
    except BaseException as error:  # a file that somebody is editing may raise anything
        said = f"a stage changed while it ran, and cannot be imported now: {type(error).__name__}: {error}"
        raise UserError(f"{said}; finished clips are kept, mend it, then run the same line again") from error
    return prepare_clip(job)


def prepare_clip(job: Job) -> Prepared:
    """Items of every stage, or the reason of each failure; what the disk refuses is raised.

    The kernel's alarm kills this process when nothing moves for `deadline_seconds`: a decoder may hang with the GIL held.
    """
    _refuse_changed(job)
    job.moved()
    prepared = Prepared(job.content, job.stat if job.rows else stat_of(job.paths))
    try:
        if job.rows:
            _run_stages(job, job.rows, prepared)
        else:
            whole = whole_digests(job)
            with media_errors(job.paths[0]):
                prepared.content = hashed(job.paths, job.moved, whole.__getitem__)
            source, timelines = next(iter(job.stages.values())).source, partial(whole_timeline, job)
            take = partial(_run_stages, job, prepared=prepared)
            decoded(job.paths, take, modality=source, decord=job.decord, moved=job.moved, timelines=timelines)
            if stat_of(job.paths) != prepared.stat:
                raise ClipError("the file changed while it was read")
    except (OSError, UserError):
        raise
    except BaseException as error:  # whatever a clip does to the code is its recorded failure
        prepared.items = {}
        prepared.failures = dict.fromkeys(job.stages, phrase(error)) | prepared.failures
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _refuse_changed(job)  # what was imported on the way
    return prepared


def _refuse_changed(job: Job) -> None:
    for name, said in job.fingerprints.items():
        if name in job.stages:
            refuse_changed(name, job.stages[name], said)


def _run_stages(job: Job, clip: Clip, prepared: Prepared) -> None:
    """One decode for all stages: every frame goes to the threads of the stages that selected it."""
    prepared.source_length, prepared.rate_hz = clip.length, clip.rate_hz
    prepared.decoder = "+".join(sorted({track.decoder for track in clip.tracks}))
    prepared.tracks = tuple(track.length for track in clip.tracks)
    feeds, failures = _feeds(job, clip)
    wanted = np.unique(np.concatenate([np.empty(0, np.int64), *(feed.wanted for feed in feeds)]))
    for feed in feeds:
        feed.start()
    end: BaseException | None = None
    try:
        for index, frame in zip(wanted.tolist(), clip.frames(wanted), strict=True):
            _refuse_large(frame, job.max_pixels)
            for feed in feeds:
                feed.give(index, frame)
    except BaseException as error:
        end = error
        raise
    finally:
        for feed in feeds:
            feed.finish(end)
    for feed in feeds:
        if feed.refused:
            raise feed.refused
    prepared.items = {feed.stage: feed.items() for feed in feeds if not feed.failure}
    prepared.failures = failures | {feed.stage: feed.failure for feed in feeds if feed.failure}


def _refuse_large(frame: Frame, most: int) -> None:
    """Frames may be larger than the headers say, which were looked at before."""
    for image in frame:
        pixels = image.shape[0] * image.shape[1] if image.ndim == 3 else 0
        if most and pixels > most:
            raise ClipError(f"its frames have {pixels} pixels, at most {most} are read")


def _feeds(job: Job, clip: Clip) -> tuple[list[Feed], dict[str, str]]:
    """The feeds of the stages, and why others cannot choose their frames."""
    feeds, failures = [], {}
    for name, extractor in job.stages.items():
        try:
            feeds.append(Feed(job, name, extractor, clip))
        except BaseException as error:
            failures[name] = phrase(error)
    return feeds, failures
