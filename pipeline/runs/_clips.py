"""The clips in files and folders that a user names: which files are of one clip, and what each shows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.corpus.intervals import interval_of, part, parted
from pipeline.corpus.media import FRAME, natural, series_name, walk
from pipeline.datasets.folder import VIDEO_SUFFIXES, VIEWS, shown
from pipeline.errors import UserError
from pipeline.types import Sample

TABLES = frozenset({".npy", ".mat", ".txt", ".csv", ".json"})
ROOT = Path("/")
"""The media of these clips are below it, wherever they lie."""
Endings = Mapping[str, Sequence[str]]


def clips_at(places: Sequence[Path], modalities: Sequence[str], endings: Endings) -> tuple[Sample, ...]:
    """Every clip in the files and folders named, called by its path as typed, without label; its media are relative to ROOT.

    By the `endings` that a corpus declares, files that are called alike before them are of one clip; a file brings those beside
    it. Without, each file is a clip of the one modality that is wanted, or files that are called alike but for their view, where views
    are; a part of a file (`talk.mp4#t=12.5,14`) always is such a clip. Raises UserError where a place holds none.
    """
    found: dict[str, dict[str, tuple[str, ...]]]
    parts = [place for place in places if parted(place)[1]] if len(modalities) == 1 else []
    places = [place for place in places if place not in parts]
    if not places:
        found = {}
    elif all(modality in endings for modality in modalities):
        found = dict(_called_alike(places, modalities, endings))
    elif {*modalities} <= VIEWS.keys() and [*modalities] != ["rgb"]:
        found = dict(_views(places, modalities))
    elif len(modalities) == 1:
        found = {str(file): {modalities[0]: (str(file),)} for place in places for file in _single(place, modalities[0])}
    else:
        raise UserError(
            f"the run reads {' and '.join(modalities)} media of every clip, and its corpus does not say how the files of one are called"
        )
    found |= {str(file): {modalities[0]: (str(file),)} for place in parts for file in _files(place)}
    return tuple(
        Sample(clip, {modality: tuple(map(_below_root, files)) for modality, files in media.items()}, None, "test", None)
        for clip, media in found.items()
    )


def _below_root(file: str) -> str:
    file, written = parted(file)
    below = Path(os.path.abspath(file)).relative_to(ROOT).as_posix()
    return part(below, interval_of(written)) if written else below


def _files(place: Path) -> Iterator[Path]:
    """The file itself, or a part of one, or all files below a folder in the order of their names; raises UserError where there is none."""
    if Path(parted(place)[0]).is_file():
        yield place
        return
    if not place.is_dir():
        raise UserError(f"no file or folder {place}; name clips, or folders that hold clips")
    for below, names in walk(place, order=natural):
        yield from (place / below / name for name in names)


def _single(place: Path, modality: str) -> list[Path]:
    """A file named is a clip, whatever it is called; of a folder, the files that may be."""
    suffixes = VIDEO_SUFFIXES | {".npy"} if modality == "rgb" else TABLES
    found = [file for file in _files(place) if file == place or file.suffix.lower() in suffixes]
    if not found:
        raise UserError(f"no {modality} clip below {place}; expected files that end in {', '.join(sorted(suffixes))}")
    return found


def _views(places: Sequence[Path], modalities: Sequence[str]) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
    """Each clip's name and the video of every view that it is to have, whether it is there or not."""
    for place in places:
        clips = {shown(str(file))[0]: file for file in _files(place) if file.suffix.lower() in VIDEO_SUFFIXES}
        if not clips:
            wanted = ", ".join(f"<clip>{VIEWS[modality]}.mp4" for modality in modalities)
            raise UserError(f"{place} is or holds no clip; expected videos called {wanted}")
        beside = {folder: _beside(folder) for folder in dict.fromkeys(file.parent for file in clips.values())}
        for clip, file in clips.items():
            own = beside[file.parent][clip]
            yield clip, {modality: (own.get(modality, f"{clip}{VIEWS[modality]}.mp4"),) for modality in modalities}


def _beside(folder: Path) -> dict[str, dict[str, str]]:
    """`{clip: {modality: video}}` of a folder."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            clip, modality = shown(str(file))
            found.setdefault(clip, {})[modality] = str(file)
    return found


def _called_alike(places: Sequence[Path], modalities: Sequence[str], endings: Endings) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
    """Each clip's name and the files that it is to have of every modality, whether they are there or not."""
    stems: dict[Path, set[str]] = {}
    for place in places:
        matches = [match for file in _files(place) if (match := _stem(file, endings))]
        if not matches:
            wanted = ", ".join(ending for modality in modalities for ending in endings[modality])
            raise UserError(f"{place} is or holds no clip of this corpus; expected files called <clip> and then {wanted}")
        for stem, modality in matches:
            stems.setdefault(stem, set()).add(modality)
    for parts in _together(stems):
        tracks = {modality: next((stem for stem in parts if modality in stems[stem]), parts[0]) for modality in modalities}
        media = {modality: tuple(f"{stem}{ending}" for ending in endings[modality]) for modality, stem in tracks.items()}
        own = tracks[modalities[0]]
        yield str(own.parent if own.name == own.parent.name else own), media


def _stem(file: Path, endings: Endings) -> tuple[Path, str] | None:
    """The clip's part of a path and the modality, by the longest ending: of the file, its series, or the folder that holds frames."""
    forms = [(file.parent, file.name)]
    if FRAME.fullmatch(file.name):
        forms += [(file.parent, series_name(file.name) or ""), (file.parent.parent, f"{file.parent.name}/")]
    known = sorted(((ending, modality) for modality, each in endings.items() for ending in each), key=lambda pair: -len(pair[0]))
    for ending, modality in known:
        for folder, name in forms:
            if name.endswith(ending) and len(name) > len(ending):
                return folder / name.removesuffix(ending), modality
    return None


def _together(stems: Mapping[Path, set[str]]) -> list[list[Path]]:
    """The stems of each clip: one, or, where they are called alike in several folders that hold a modality each, all of these."""
    by_name: dict[str, list[Path]] = {}
    for stem in stems:
        by_name.setdefault(stem.name, []).append(stem)
    found: list[list[Path]] = []
    for parts in by_name.values():
        are_apart = sum(len(stems[stem]) for stem in parts) == len({modality for stem in parts for modality in stems[stem]})
        found += [parts] if are_apart else [[stem] for stem in parts]
    return found
