"""The clips of a name as who pushed its features knows them: for a checkout that never had their files.

names/<name>.json    signed: corpus, split, classes, every clip with label, split and signer, and what its files hold
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.cache.publishing import finished
from pipeline.cache.stage import Stage
from pipeline.corpus import manifest
from pipeline.corpus.manifest import CHECKOUT, Binding, Home, Manifest
from pipeline.errors import NewerFormat, UserError
from pipeline.extraction.inputs import inputs_of
from pipeline.objects import ObjectStore
from pipeline.remote import catalogue, signing
from pipeline.remote.signing import Key
from pipeline.types import Sample

FORMAT = 1


@dataclass(frozen=True)
class Known:
    """A name in a remote: its clips, and `{modality: {clip: content hash}}` of those that were extracted."""

    table: Manifest
    contents: Mapping[str, Mapping[str, str]]


def put(home: Home, table: Manifest, stage: Stage, remote: ObjectStore, key: Key) -> None:
    """Tell a remote of every clip of a name, and what those hold that a stage of media has rows of."""
    done = finished(stage, home)
    numbers = done.current(done.places(table), inputs_of(home, table, stage))
    contents = done.rows.columns["content"]
    here = {clip: contents[number].decode() for clip, number in zip(table.ids, numbers.tolist(), strict=True) if number >= 0}
    before = read(remote, table.name)
    known = dict(before.contents) if before and before.table.ids == table.ids else {}
    bound = table.binding
    said = {
        "format": FORMAT,
        "corpus": bound.corpus,
        "split": bound.split,
        "seed": bound.seed,
        "may_lack": bound.may_lack,
        "classes": table.classes,
        "clips": [[s.id, s.label, s.split, s.signer, s.media] for s in table.samples],
        "contents": {**known, stage.extractor.source: here},
    }
    remote.write(_place(table.name), key.signed(said))


def read(remote: ObjectStore, name: str) -> Known | None:
    """What a remote knows of a name, bound to where its files would lie here; None where nothing was pushed under it."""
    place = _place(name)
    try:
        said = signing.checked(remote.read(place))
        if said["format"] > FORMAT:
            raise NewerFormat(f"{remote.place}/{place}", said["format"], FORMAT)
        binding = Binding(said["corpus"], (CHECKOUT / "data" / name).absolute(), said["split"], said["seed"], tuple(said["may_lack"]))
        clips = (Sample(clip, _media(media), label, split, signer) for clip, label, split, signer, media in said["clips"])
        table = Manifest(name, binding, tuple(said["classes"]), tuple(manifest.checked(clips, binding.root)))
        contents = {str(modality): {str(clip): str(content) for clip, content in of.items()} for modality, of in said["contents"].items()}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{remote.place}/{place} is damaged ({error}); have {name!r} pushed again") from error
    believed = signing.believed()
    if believed and said["signer"] not in believed:
        raise UserError(f"{said['signer'][:16]}... signed the clips of {name!r} in {remote.place}, who is not among {signing.SIGNERS}")
    return Known(table, contents)


def bound_here(home: Home, name: str, remote: ObjectStore) -> Manifest:
    """The clips of a name as they are here; where it stands for none, as the remote knows them, whose name it is then.

    Raises UserError where neither knows it.
    """
    if manifest.is_bound(home, name):
        before = manifest.read(home, name, clips=False)
        return manifest.bind(home, name) if before.binding.root.is_dir() else manifest.read(home, name)
    catalogue.check_format(remote)
    known = read(remote, name)
    if known is None:
        return manifest.bind(home, name)
    manifest.write(home, known.table)
    return known.table


def contents_of(remote: ObjectStore, table: Manifest, modality: str) -> Mapping[str, str]:
    """`{clip: content hash}` of clips of a name whose files are not here, as the remote knows them."""
    known = read(remote, table.name)
    return known.contents.get(modality, {}) if known else {}


def _place(name: str) -> str:
    return f"names/{manifest.checked_name(name)}.json"


def _media(said: Any) -> dict[str, tuple[str, ...]]:
    return {str(modality): tuple(map(str, parts)) for modality, parts in said.items()}
