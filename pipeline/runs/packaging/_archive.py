"""A package as one zip: written without compression, for weights have none to give, and unpacked without trust."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from pipeline.errors import UserError

SUFFIX = ".zip"
MOST_BYTES = 8 << 30
"""Of all members together, as they are unpacked."""
MOST_MEMBERS = 10_000


def is_archive(place: Path) -> bool:
    return place.suffix.lower() == SUFFIX and place.is_file()


def pack(folder: Path, file: Path) -> None:
    """The files of a folder as a new zip."""
    with zipfile.ZipFile(file, "x", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(folder).as_posix())


def unpack(file: Path, folder: Path) -> None:
    """Bring the members of a zip into an empty folder.

    Raises UserError where it is none, is damaged, is too large, or holds a member that would lie elsewhere or be no plain file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _refuse(file, members)
            for member in members:
                if not member.is_dir():
                    _write(archive, member, folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise UserError(f"the package {file} is no whole zip ({error}); get it anew") from error
    except OSError as error:
        raise UserError(f"the package {file} cannot be unpacked: {error.strerror or error}; make room in {folder.parent}") from error


def _refuse(file: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not member.flag_bits & 1
        if not is_plain or not is_below(member.filename):
            raise UserError(f"the package {file} holds {member.filename!r}, which is no file of its own folder; do not use it")
    if len({member.filename for member in members}) < len(members):
        raise UserError(f"the package {file} holds two members of one name; do not use it")
    size = sum(member.file_size for member in members)
    if size > MOST_BYTES or len(members) > MOST_MEMBERS:
        raise UserError(
            f"the package {file} would unpack to {len(members)} files of {size} bytes; at most {MOST_MEMBERS} of {MOST_BYTES} are read"
        )


def is_below(name: str) -> bool:
    """Whether a name in a package is that of a file below its folder, on any system."""
    parts = PurePosixPath(name).parts
    is_relative = not (name.startswith("/") or PureWindowsPath(name).drive or "\\" in name or "\0" in name)
    return is_relative and bool(parts) and ".." not in parts


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """A member is read up to the size that it states, and its checksum compared."""
    path = folder / member.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as target:
        shutil.copyfileobj(source, target)
