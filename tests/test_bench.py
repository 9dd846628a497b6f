"""The bench itself, in tiny: it compares before it times, says `below`, and keeps what it found. Nothing here asserts a time."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline.data import _order
from pipeline.decoding.decode import open_clip
from pipeline.spotting.glosses import Gloss
from tests.bench import __main__ as bench
from tests.bench import extracting, extractor, gpu, learner, live, memory, million, planning, results, rivals, threads
from tests.bench.clips import Clips
from tests.bench.contest import Contestant, ContestantFailed, in_turns
from tests.bench.extractor import WAYS
from tests.bench.learner import READERS, Learner
from tests.bench.reader import Readers, Size, Unequal
from tests.bench.readers import KINDS, digests
from tests.bench.rows import Row, faster
from tests.video_files import write_clip

CLIPS = Clips(20, width=8, shortest=1, longest=5, batch=4)
FAST = faster("reader", "warm: a rival", [1.0, 2.0], [7.0, 16.0], count=20, unit="clips", floor=6, aim=10)
SLOW = faster("reader", "warm: another", [1.0], [5.0], count=20, unit="clips", floor=6, aim=10)
ABSENT = Row("reader", "warm: litdata", "clips/s", floor=6, absent="cannot be installed: no network")
WAITS = Row("train", "lstm_late", "% of an epoch", (0.2,), (7.0,), (0.2,), 1.0, 0.1, at_most=True)
MACHINE: dict[str, Any] = {
    **{"cpu": "a processor", "cores": 2, "memory_bytes": 24 << 30, "gpu": None, "python": "3.11.7", "torch": "2", "signcache": "0"},
    "load_average": 0.1,
}


@pytest.mark.parametrize("kind", ["windows", "npy", "h5py", "h5py_rows", "zarr", "zarr_plain", "on_device"])
def test_every_reader_gives_the_batches_of_ours(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RESIDENT_BYTES", "WINDOW_BYTES"):  # which `windows` sets in a process of its own
        monkeypatch.setattr(_order, name, getattr(_order, name))
    told = {}
    for name, folder in (("ours", "ours-float32"), (kind, "ours-float32" if kind == "windows" else f"{kind}-float32")):
        reader = READERS[name](tmp_path / folder, CLIPS)
        if not (tmp_path / folder).exists():
            reader.write()
        reader.open()
        told[name] = digests(reader.batches(0))
    about = "clips" if kind == "windows" else "batches"
    assert told[kind][about] == told["ours"][about]


def test_another_value_is_another_batch(tmp_path: Path) -> None:
    reader = KINDS["npy"](tmp_path, CLIPS)
    reader.write()
    reader.open()
    before = digests(reader.batches(0))
    path = next(tmp_path.rglob("clip7.npy"))
    np.save(path, np.load(path) + 1)
    after = digests(reader.batches(0))
    assert before["batches"] != after["batches"]
    assert before["clips"] != after["clips"]


def test_a_rival_that_reads_something_else_is_not_timed() -> None:
    def reader(value: str, stream: bool) -> Contestant:
        return cast(Contestant, SimpleNamespace(ask=lambda *_: {"batches": value, "clips": "same", "stream": stream}))

    Readers._compare({"ours": reader("a", False), "stream": reader("b", True), "copy": reader("c", False)})
    with pytest.raises(Unequal, match="npy reads other batches than ours"):
        Readers._compare({"ours": reader("a", False), "npy": reader("b", False)})


def test_readers_are_asked_in_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    readers = Readers(Size(clips=20, processes=1, rounds=2), tmp_path, "")
    for kind in ("npy", "ours"):
        readers.write(kind)
    found = readers.warm(["npy"])
    assert {kind: len(seconds) for kind, seconds in found.items()} == {"ours": 2, "npy": 2}
    assert min(found["ours"] + found["npy"]) > 0


def test_every_other_round_goes_backwards() -> None:
    asked: list[str] = []

    def contestant(name: str) -> Contestant:
        def ask(*words: object) -> tuple[object, ...]:
            asked.append(name)
            return words

        return cast(Contestant, SimpleNamespace(ask=ask))

    found = in_turns({"a": contestant("a"), "b": contestant("b")}, range(2), "seconds")
    assert asked == ["a", "b", "b", "a"]
    assert found == {"a": [("seconds", 0), ("seconds", 1)], "b": [("seconds", 0), ("seconds", 1)]}


def test_a_contestant_that_ends_says_why(tmp_path: Path) -> None:
    with Contestant(sys.executable, "tests.bench.readers", "npy", tmp_path, 20, "float32") as reader:
        reader.ask("open")
        with pytest.raises(ContestantFailed, match="FileNotFoundError"):
            reader.ask("seconds", 0)


@pytest.mark.parametrize("model", ["lstm_late", "gru"])
def test_a_training_learns_the_same_from_either_reader_and_tells_what_it_waited(model: str, tmp_path: Path) -> None:
    clips = replace(CLIPS, count=80, batch=learner.recipe_of(model).batch_size)  # more than a batch, and as the training cuts them
    for kind in ("npy", "ours"):
        KINDS[kind](tmp_path / f"{kind}-float32", clips).write()
    ours = Learner("ours", model, tmp_path, clips).epoch(0)
    for kind in ("npy", "on_device"):
        assert ours["loss"] == pytest.approx(Learner(kind, model, tmp_path, clips).epoch(0)["loss"], rel=1e-6)
    assert 0 < ours["waited"] < ours["seconds"]


def test_the_engine_the_bare_stage_and_the_peers_loop_make_the_same_rows(tmp_path: Path) -> None:
    write_clip(tmp_path / "data" / "sign" / "clip.mp4", frames=5)
    for name, way in WAYS.items():
        (tmp_path / name).mkdir()
        ready = way(tmp_path / "data", tmp_path / name, ["resnet50"])
        ready.ready()
        assert ready.run()["seconds"] > 0
        ready.saved()
    extracting.alike(tmp_path / "engine", tmp_path / "bare", tmp_path / "peers")
    assert np.load(tmp_path / "peers" / "sign-clip.npy").shape == (5, 2048)


def test_the_engine_and_the_bare_stage_cut_the_same_windows(tmp_path: Path) -> None:
    write_clip(tmp_path / "data" / "sign" / "clip.mp4", frames=34, rate=25)
    for name in ("engine", "bare"):
        way = WAYS[name](tmp_path / "data", tmp_path / name, ["gpu_i3d"])
        (tmp_path / name).mkdir()
        way.ready()
        assert extractor.timed(way)["seconds"] > 0
        way.saved()
    extracting.alike(tmp_path / "engine", tmp_path / "bare")
    assert np.load(tmp_path / "bare" / "sign-clip.npy").shape == (3, 1024)


def test_a_gpu_is_held_against_the_bare_forward_and_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "said")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '0\\n50\\n100\\n'\necho $1 > {tmp_path}/said\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    with gpu.watched() as found:
        assert (tmp_path / "said").read_text() == "--id=GPU-7\n"
    assert found == {"busy": 50.0}

    monkeypatch.setattr(gpu, "absent", lambda: "")
    monkeypatch.setattr(gpu, "moving", lambda *_: None)
    monkeypatch.setattr(gpu, "alike", lambda *_: None)
    told = {"engine": {"seconds": 8.0, "busy": 91.0}, "bare": {"seconds": 20.0, "forward": 7.2}}
    monkeypatch.setattr(gpu, "once", lambda way, *_: told[way.kind])
    rows = list(gpu.rows(True, tmp_path))
    assert [(row.value, row.verdict) for row in rows] == [(0.9, "ok"), (91.0, "")] * 2
    assert rows[0].ours == (8 * 300 / 8.0,)


def test_without_a_gpu_its_rows_are_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert {row.verdict for row in gpu.rows(True, tmp_path)} == {"absent"}


def test_ways_of_extracting_must_make_the_same_rows(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    for way, values in (("engine", rows), ("bare", rows * 1.0001), ("peers", rows[::-1])):
        (tmp_path / way).mkdir()
        np.save(tmp_path / way / "clip.npy", values)
    extracting.alike(tmp_path / "engine", tmp_path / "bare")
    with pytest.raises(RuntimeError, match="peers made other rows of clip than engine"):
        extracting.alike(tmp_path / "engine", tmp_path / "peers")


def test_what_is_planned_is_held_to_seconds_and_to_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = asdict(
        million.Row("plan", 1000, seconds=[1.0, 9.0, 3.0], cpu_seconds=[2.0], peak_bytes=[1 << 30], floor_seconds=2.0, floor_bytes=2 << 30)
    )
    monkeypatch.setattr(planning, "Contestant", lambda *_: nullcontext(SimpleNamespace(ask=lambda *_: [told])))
    seconds, memory = planning.rows(True, tmp_path)
    assert (seconds.value, seconds.verdict) == (3.0, "below")
    assert (memory.value, memory.verdict) == (1024, "ok")


def test_threads_are_held_against_the_best_setting_beside_a_busy_process_that_then_ends() -> None:
    seen: list[bool] = []

    def seconds(setting: threads.Setting, number: int) -> float:
        seen.append(any(child.cmdline()[-1:] == ["while True: pass"] for child in psutil.Process().children()))
        (name,) = (name for name, each in threads.SETTINGS.items() if each is setting)
        return {"ours": 5.0, "one": 4.0}.get(name, 8.0)

    beside, alone = threads.compared("work", seconds, 20, rounds=2)
    assert beside.what == "work beside a busy process: the best setting of threads there (one)"
    assert (beside.values, beside.verdict) == ((0.8, 0.8), "ok")
    assert (alone.values, alone.rival) == ((1.6, 1.6), (2.5, 2.5))
    assert seen == [True] * 8 + [False] * 4


def test_ratios_are_of_each_round_and_their_median_counts() -> None:
    assert FAST.values == (7.0, 8.0)
    assert (FAST.value, FAST.verdict) == (7.5, "ok")
    assert (SLOW.value, SLOW.verdict) == (5.0, "below")
    assert (WAITS.verdict, ABSENT.verdict) == ("ok", "absent")


def test_the_table_names_the_machine_every_row_and_why_a_rival_is_absent(tmp_path: Path) -> None:
    out = StringIO()
    status = results.show(MACHINE | {"load_average": 2.0}, [FAST, WAITS, ABSENT], tmp_path / "x.json", Console(file=out, width=200))
    text = out.getvalue()
    assert status == 0
    for words in ("a processor, 2 cores, 24 GiB", "the machine is busy", "warm: a rival", ">= 6", "<= 1", "absent: cannot be installed"):
        assert words in text


def test_a_row_below_its_floor_says_so_and_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def part(quick: bool, folder: Path) -> Iterator[Row]:
        assert quick
        yield from (FAST, SLOW, ABSENT)

    monkeypatch.setattr(bench, "PARTS", {"reader": part})
    done = CliRunner().invoke(bench.main, ["--quick", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "below" in done.output
    (path,) = tmp_path.glob("*.json")
    kept = json.loads(path.read_text())
    assert [row["verdict"] for row in kept["rows"]] == ["ok", "below", "absent"]
    assert kept["rows"][0]["ours"] == [20.0, 10.0]
    assert kept["machine"]["python"]
    assert path.with_suffix(".svg").stat().st_size > 0
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".svg"]


def test_rivals_that_cannot_be_installed_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    python, why = rivals.python(tmp_path / "file" / "venv")
    assert not python
    assert why.startswith("cannot be installed: ")


def test_memory_is_measured_with_a_long_clip_and_with_clips_that_differ(tmp_path: Path) -> None:
    brief = tmp_path / "brief.mp4"
    write_clip(brief, frames=10)
    memory.repeated(brief, tmp_path / "long" / "clip.mp4", 3)
    clip = open_clip([tmp_path / "long" / "clip.mp4"], decord=True, lengths={})
    assert len(list(clip.frames(np.arange(clip.length)))) == 30
    memory.written(tmp_path / "many", 25)
    assert len({path.read_bytes() for path in (tmp_path / "many").rglob("*.mp4")}) == 25


def test_a_word_counts_for_the_sign_that_it_follows() -> None:
    truth = [Gloss("A", 1, 2, 1), Gloss("B", 3, 4, 1), Gloss("A", 5, 6, 1)]
    words = [{"label": "A", "at": 2.5}, {"label": "C", "at": 3.5}, {"label": "A", "at": 5.5}, {"label": "A", "at": 7.0}]
    assert live.lateness(words, truth) == [0.5, -0.5]
    assert live.lateness([], truth) == []
