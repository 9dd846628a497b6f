"""A damaged cache is found, named with its clips, and mended by the command that every message names."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cache import index, publishing
from pipeline.cache.stage import Stage, published
from pipeline.cache.upkeep.verify import Report, verify
from pipeline.corpus import media
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from tests.checkout import Checkout
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Manifest, Stage]:
    """Four shards of three clips; tests work on copies."""
    home, table = corpus(tmp_path_factory.mktemp("whole"), balanced(2, 4, 1))
    return home, table, publish(home, table, signals(table), shard_clips=3)


@pytest.fixture
def home(whole: tuple[Home, Manifest, Stage], tmp_path: Path) -> Home:
    shutil.copytree(whole[0].cache, tmp_path / "cache")
    shutil.copytree(whole[0].manifests, tmp_path / "manifests")
    return Home(tmp_path / "cache", tmp_path / "manifests")


def folder_of(home: Home) -> Path:
    said_now = published(home, "signs", "resnet50")
    assert said_now is not None
    return home.cache / "signs" / "resnet50" / said_now.digest


def markers(home: Home) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, json.loads(path.read_bytes())) for path in sorted(folder_of(home).glob("*.json"))]


def flip(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset % len(content)] ^= 1 << bit
    path.write_bytes(content)


def data_file(home: Home, number: int = 1) -> Path:
    return next(path for path in sorted(folder_of(home).glob("*.zarr"))[number].rglob("c/*/*") if path.is_file())


def clips_of(home: Home, number: int) -> list[str]:
    return [row["id"] for row in markers(home)[number][1]["rows"]]


def looked(home: Home) -> Report:
    report = Report()
    verify(home, "signs", "resnet50", again=False, say=lambda *_: None, report=report)
    return report


def lost(home: Home, whole: tuple[Home, Manifest, Stage]) -> set[str]:
    """The clips that the next extraction would make anew."""
    done = publishing.finished(whole[2], home)
    stats = {s.id: media.stat_of(whole[1].paths(s, "rgb")) for s in whole[1].samples}
    return {clip for clip, stat in stats.items() if not done.has(clip, stat.token)}


def test_a_whole_cache_is_said_to_be_whole(home: Home) -> None:
    assert said(home, "verify") == said(home, "verify", "signs", "resnet50")
    assert "4 shards, 12 clips" in said(home, "verify", "signs")
    assert "all whole" in said(home, "verify", "signs")
    assert not list(home.cache.rglob(".verified.json")), "the next verification reads it all again"


def test_a_flipped_byte_names_the_shard_and_its_clip_and_mending_costs_that_shard(home: Home, whole: tuple[Home, Manifest, Stage]) -> None:
    clips, (path, marker) = clips_of(home, 1), markers(home)[1]
    row = marker["rows"][2]
    flip(data_file(home), row["start"] * 2048 * 4 + 17)
    out = said(home, "verify", status=1)
    assert f"damaged: signs/resnet50/{path.parent.name}: shard {marker['name']}: " in out
    assert f"differs from its checksum; clips: {clips[2]!r}\n" in out
    assert "mend it with: signcache verify signs resnet50 --mend" in out
    out = said(home, "verify", "signs", "resnet50", "--mend")
    assert f"set aside: {path.parent / 'damaged' / path.name}" in out
    assert "signcache extract signs resnet50" in out
    assert lost(home, whole) == set(clips)
    assert (path.parent / "damaged" / marker["shard"]).is_dir(), "nothing is deleted"


def test_reading_finds_a_flipped_byte_in_its_clip_only(home: Home) -> None:
    clips, row = clips_of(home, 1), markers(home)[1][1]["rows"][2]
    flip(data_file(home), row["start"] * 2048 * 4 + 17)
    now = published(home, "signs", "resnet50")
    assert now is not None
    features = publishing.Features(home, "signs", "resnet50", now)
    assert len(features[clips[0]]) == markers(home)[1][1]["rows"][0]["length"]
    for _ in range(2):
        with pytest.raises(
            UserError,
            match=rf"the rows of '{clips[2]}' in .* differ from their checksum; run: signcache verify signs resnet50 --mend, then",
        ):
            features[clips[2]]


@pytest.mark.parametrize("harm", ["cut tail", "missing file", "missing shard", "empty file", "another shard's bytes"])
def test_every_harm_to_a_shard_is_found_and_mended(home: Home, whole: tuple[Home, Manifest, Stage], harm: str) -> None:
    clips, file = clips_of(home, 1), data_file(home)
    if harm == "cut tail":
        os.truncate(file, file.stat().st_size - 5)
    elif harm == "missing file":
        file.unlink()
    elif harm == "missing shard":
        shutil.rmtree(folder_of(home) / markers(home)[1][1]["shard"])
    elif harm == "empty file":
        os.truncate(file, 0)
    else:
        shutil.copy(data_file(home, 2), file)
    found = looked(home).damages
    assert [(damage.kind, damage.clips) for damage in found] == [("shard", tuple(clips))]
    said(home, "verify", "signs", "--mend")
    assert lost(home, whole) == set(clips)


def test_a_damaged_marker_is_named_with_its_clips_and_mended(home: Home, whole: tuple[Home, Manifest, Stage]) -> None:
    clips, (path, marker) = clips_of(home, 2), markers(home)[2]
    path.write_text(path.read_text().replace('"length": ', '"length": 1', 1))
    out = said(home, "verify", status=1)
    assert f"marker {path.name}: the marker {path} is damaged (its content does not fit its seal)" in out
    assert f"; clips: {', '.join(map(repr, clips))}\n" in out
    said(home, "verify", "--mend")
    assert lost(home, whole) == set(clips)
    assert not (path.parent / marker["shard"]).exists()


def test_a_missing_marker_is_no_shard_and_is_named(home: Home, whole: tuple[Home, Manifest, Stage]) -> None:
    clips, (path, marker) = clips_of(home, 2), markers(home)[2]
    path.unlink()
    out = said(home, "verify", status=1)
    assert f"marker {marker['name']}.json: it is missing; clips: {', '.join(map(repr, clips))}\n" in out
    assert lost(home, whole) == set(clips)


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_a_lost_row_index_costs_no_clip(home: Home, whole: tuple[Home, Manifest, Stage], harm: str) -> None:
    path = next(folder_of(home).glob("rows-*.npz"))
    if harm == "damaged":
        flip(path, path.stat().st_size // 2)
        with pytest.raises(
            UserError, match=r"the row index .* is damaged \(.*\); run: signcache verify signs resnet50 --mend, then extract"
        ):
            index.read(path)
    else:
        path.unlink()
    assert f"row index {path.name}: " in said(home, "verify", status=1)
    said(home, "verify", "--mend")
    assert not lost(home, whole)


def test_a_damaged_published_file_is_put_back_as_it_was_published_last(home: Home, whole: tuple[Home, Manifest, Stage]) -> None:
    path = folder_of(home).parent / "published.json"
    before = path.read_bytes()
    path.write_text(path.read_text().replace('"dtype": "float32"', '"dtype": "float16"'))
    with pytest.raises(
        UserError, match=r"published\.json is damaged \(.*seal\); run: signcache verify signs resnet50 --mend, then: signcache"
    ):
        published(home, "signs", "resnet50")
    assert "published.json is damaged" in said(home, "verify", status=1)
    assert f"put back as it was published last: {path}\n" in said(home, "verify", "--mend")
    assert path.read_bytes() == before
    assert not lost(home, whole)
    assert "all whole" in said(home, "verify")


def test_a_damaged_published_file_without_a_copy_is_set_aside_and_the_rows_stay(home: Home, whole: tuple[Home, Manifest, Stage]) -> None:
    path = folder_of(home).parent / "published.json"
    (folder_of(home) / ".published").unlink()  # an older signcache wrote none
    path.write_text("{")
    said(home, "verify", "--mend")
    assert published(home, "signs", "resnet50") is None
    assert not lost(home, whole)


def test_what_a_newer_signcache_wrote_is_named_and_never_set_aside(home: Home) -> None:
    path, marker = markers(home)[0]
    path.write_text(json.dumps({**marker, "format": 2}))
    out = said(home, "verify", "--mend")
    assert f"{path} has format 2, this signcache reads up to 1: install a newer signcache" in out
    assert path.exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found_or_changes_nothing_that_is_read(home: Home, data: st.DataObject) -> None:
    files = sorted(path for path in folder_of(home).parent.rglob("*") if path.is_file() and not path.name.startswith("."))
    file = data.draw(st.sampled_from(files), label="file")
    before = file.read_bytes()
    flip(file, data.draw(st.integers(0, len(before) - 1), label="byte"), data.draw(st.integers(0, 7), label="bit"))
    try:
        if not looked(home).damages:
            meaning = _values(file)
            file.write_bytes(before)
            assert meaning == _values(file), "a flip that nothing tells"
    finally:
        file.write_bytes(before)


def _values(path: Path) -> Any:
    """What a row index or a JSON file says, without its seal."""
    if path.suffix == ".npz":
        return index.to_bytes(index.read(path))
    content: dict[str, Any] = json.loads(path.read_bytes())
    return {
        key: value for key, value in content.items() if key in ("digest", "identity", "settings", "row_shape", "dtype", "index", "rows")
    }


def test_an_unknown_name_or_stage_is_one_line(home: Home) -> None:
    out = said(home, "verify", "sings", status=2)
    assert f"signcache: no features of 'sings' lie in {home.cache}; did you mean 'signs'? Known: signs\n" in out
    out = said(home, "verify", "signs", "resnet", status=2)
    assert "no features of signs/resnet lie in" in out
    assert "did you mean 'resnet50'? Known: resnet50" in out


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A real extraction of six clips in shards of two."""
    checkout = Checkout.make(tmp_path_factory.mktemp("colours") / "checkout")
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 2")
    checkout.ok("extract", "tiny", "colour")
    return checkout


def test_extract_after_mending_rebuilds_exactly_the_damaged_clips(colours: Checkout) -> None:
    before, (path, marker) = colours.rows("colour"), sorted(colours.markers("colour").items())[1]
    flip(next(file for file in (path.parent / marker["shard"]).rglob("c/*/*") if file.is_file()), 3)
    done = colours.run("verify")
    assert done.returncode == 1
    assert f"clips: {marker['rows'][0]['id']!r}\n" in done.stderr
    colours.ok("verify", "tiny", "colour", "--mend")
    assert colours.plan("colour")["colour"]["reasons"] == {"lost from the cache": 2}
    assert colours.extracted("colour") == {"colour": 2}
    assert colours.rows("colour") == before
    assert "all whole" in colours.ok("verify").stderr


def test_settings_and_second_names_outlive_a_damaged_published_file(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path / "checkout", clips=2)
    checkout.ok("extract", "tiny", "colour", "--set", "max_frames=5")
    checkout.ok("extract", "tiny", "palette", "--as", "bright")
    for stage in ("colour", "bright"):
        (checkout.folder / "cache/tiny" / stage / "published.json").write_text("{")
    checkout.ok("verify", "tiny", "--mend")
    assert checkout.extracted("colour", "bright") == {}
    assert {rows for rows, _ in checkout.rows("colour").values()} == {(5, 3)}
    assert len(checkout.rows("bright")) == 2


def test_an_imported_stage_is_published_again_without_what_it_lost(tmp_path: Path) -> None:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    for clip in ("a", "b"):
        (tmp_path / "rows" / clip).mkdir(parents=True)
        np.save(tmp_path / "rows" / clip / "one.npy", np.ones((3, 4), np.float32) * ord(clip))
    said(home, "import", "own", "poses", tmp_path / "rows", "--format", "npy")
    for path in (home.cache / "own/poses").glob("*/rows-*.npz"):
        path.write_bytes(b"damaged")
    said(home, "verify", "--mend")
    said(home, "extract", "own", "poses")
    assert set(publishing.open_stage("own", "poses", cache=home.cache, manifests=home.manifests)) == {"a/one", "b/one"}


def test_a_derived_stage_never_reads_a_damaged_row(colours: Checkout) -> None:
    path, marker = sorted(colours.markers("colour").items())[0]
    file = next(file for file in (path.parent / marker["shard"]).rglob("c/*/*") if file.is_file())
    flip(file, 3)
    done = colours.run("extract", "tiny", "brightness")
    assert done.returncode == 2
    assert "differ from their checksum; run: signcache verify tiny colour --mend, then extract again" in done.stderr
    assert colours.plan("brightness")["brightness"]["failed"] == 0, "a damaged cache is no clip's failure"
    flip(file, 3)
    colours.ok("extract", "tiny", "brightness")


def test_a_killed_verification_goes_on_where_it_was(colours: Checkout) -> None:
    line = "                        known.add(place.folder, name)\n"
    death = line + "                    import os, signal; number == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
    colours.edit("pipeline/cache/upkeep/verify.py", line, death)
    colours.edit("pipeline/cache/upkeep/_verified.py", "SAVE_SECONDS = 2.0", "SAVE_SECONDS = 0.0")
    assert colours.run("verify", "tiny", "colour").returncode == -signal.SIGKILL
    colours.edit("pipeline/cache/upkeep/verify.py", death, line)
    assert "1 shards, 2 clips" in (err := colours.ok("verify", "tiny", "colour").stderr)
    assert "all whole; 2 more were found whole before the interruption" in err
    assert "3 shards, 6 clips" in colours.ok("verify", "tiny", "colour").stderr
