"""A real server and what strangers send it: labels as predict gives them, limits, and nothing of it left behind."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.corpus.manifest import Home
from tests.checkout import PATIENCE
from tests.commands import run, said
from tests.serving.started import Serving, started
from tests.video_files import numbered, write_clip

SMALL = ("source=rgb", "receivers=1", "max_frames=4", "resize=16,16")
SAME = {"qp": "0", "preset": "ultrafast"}
"""Of libx264: without loss."""
TINY = ("hidden=4", "epochs=1", "stages=radar_cnn")


def sets(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of a package of two signs; a new clip is `new.mp4`, one that lasts too long `long.mp4`."""
    root = tmp_path_factory.mktemp("serving")
    home = Home(root / "cache", root / "manifests")
    for number in range(12):
        write_clip(root / "data" / f"sign{number % 2}" / f"clip{number}.mp4", 6 + number)
    said(home, "manifest", "signs", "--corpus", "folder", "--root", root / "data")
    said(home, "extract", "signs", "radar_cnn", *sets(*SMALL), "--device", "cpu")
    done = run(home, "train", "signs", "lstm_late", *sets(*TINY), "--device", "cpu", "--json")
    said(home, "package", json.loads(done.stdout)["run"], root / "signs.zip")
    write_clip(root / "new.mp4", 9)
    write_clip(root / "long.mp4", 40, rate=2)
    with started(root / "signs.zip", root, "--max-mb", "1", "--max-seconds", "10", "--max-pixels", "10000") as server:
        yield server


def test_an_upload_is_labelled_as_predict_labels_it_and_found_again_by_its_content(serving: Serving, tmp_path: Path) -> None:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    clip = serving.root / "new.mp4"
    (expected,) = json.loads(run(home, "predict", serving.package, clip, "--json", "--device", "cpu").stdout)
    status, answer = serving.send(clip.read_bytes(), name="mine.mp4")
    assert (status, answer) == (200, {**expected, "clip": "mine.mp4"})
    before = serving.counted("labelled_decoded")
    assert serving.send(clip.read_bytes(), name="again.mov") == (200, {**expected, "clip": "again.mov"})
    assert serving.counted("labelled_decoded") == before > 0


def test_several_clients_get_their_own_answers(serving: Serving) -> None:
    clips = sorted((serving.root / "data").rglob("*.mp4"))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda clip: serving.send(clip.read_bytes(), name=clip.name), clips))
    assert [status for status, _ in answers] == [200] * len(clips)
    assert [answer["clip"] for _, answer in answers] == [clip.name for clip in clips]
    for clip, (_, answer) in list(zip(clips, answers, strict=True))[:2]:
        assert serving.send(clip.read_bytes(), name=clip.name)[1] == answer


def test_what_is_hostile_is_refused_and_the_next_is_labelled(serving: Serving) -> None:
    good = (serving.root / "new.mp4").read_bytes()
    picture = serving.root / "picture.png"
    Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(picture)
    large = write_clip(serving.root / "large.mp4", 3, size=(128, 96)).read_bytes()
    for content, status, text in [
        (picture.read_bytes(), 415, "this is no video that is read here"),
        (b"", 415, "this is no video that is read here"),
        (b"#!/bin/sh\n", 415, "this is no video that is read here"),
        (bytes(1_200_000), 413, "at most 1000000 bytes a clip"),
        (good[:40] + bytes(2000), 422, "the clip"),
        ((serving.root / "long.mp4").read_bytes(), 422, "it lasts 20 s, at most 10 s are read"),
        (large, 422, "its frames have 12288 pixels, at most 10000 are read"),
    ]:
        found, answer = serving.send(content)
        assert (found, text in answer["detail"]) == (status, True), answer
        assert not re.search(r"/|Traceback|[0-9a-f]{16}", json.dumps(answer)), answer
    assert serving.send(good, field="other")[0] == 422
    assert serving.send(good, name="../../etc/<b>passwd\\x.mp4")[1]["clip"] == "x.mp4"
    assert list((serving.root / "tmp").glob("signcache-serve-*/uploads/*")) == []
    assert not (serving.root / "served").exists()


def test_it_says_how_it_is_and_what_it_may_say(serving: Serving) -> None:
    assert serving.get("/health") == {"status": "alive"}
    assert serving.get("/ready") == {"ready": True}
    card = serving.get("/card")
    assert card["classes"] == ["sign0", "sign1"]
    assert "sign0" in card["card"]
    interface = serving.get("/openapi.json")
    assert "WS /live?rate_hz=25&send=frames|rows" in interface["info"]["description"]
    described = interface["paths"]["/predict"]["post"]
    assert described["responses"]["200"]["content"]["application/json"]["example"]["label"] == "HELLO"
    assert {"408", "413", "415", "422", "429", "504"} <= described["responses"].keys()
    assert 'signcache_requests_total{path="/health",status="200"}' in serving.get("/metrics")


def test_a_video_is_spotted_in_or_refused_with_its_reason(serving: Serving) -> None:
    status, answer = serving.send((serving.root / "new.mp4").read_bytes(), path="/spot")
    assert status == 422
    assert answer["detail"].startswith("the clip has 9 frames, fewer than a window of 60")
    status, answer = serving.send(write_clip(serving.root / "video.mp4", 70).read_bytes(), path="/spot")
    assert status == 200, answer
    assert all(each.keys() == {"label", "start", "end", "probability"} for each in answer["glosses"])


def test_a_part_of_a_video_is_labelled_as_a_clip_of_these_frames_is(serving: Serving, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "video.mp4", 300, options=SAME, pixels="yuv444p")  # longer than a clip may be
    alone = write_clip(tmp_path / "alone.mp4", 10, options=SAME, pixels="yuv444p", draw=lambda number, size: numbered(10 + number, size))
    expected = serving.send(alone.read_bytes(), name="video.mp4")
    assert serving.send(video.read_bytes(), name="video.mp4", path="/predict?start=0.4&end=0.8") == expected
    decoded = serving.counted("labelled_decoded")
    assert serving.send(video.read_bytes(), name="video.mp4", path="/predict?start=0.4&end=0.8") == expected
    assert serving.counted("labelled_decoded") == decoded
    for asked, reason in [
        ("start=2", "a part has a start and an end in seconds, the start first, as in start=1.2&end=2.5"),
        ("start=2&end=1", "a part has a start and an end in seconds, the start first, as in start=1.2&end=2.5"),
        ("start=0&end=11", "the part lasts 11.0 s, at most 10 s are read"),
        ("start=20&end=21", "radar_cnn: 20 to 21 s of the clip, which has 300 frames, 12.000 s: that is beyond its end"),
    ]:
        assert serving.send(video.read_bytes(), path=f"/predict?{asked}") == (422, {"detail": reason})
    assert list((serving.root / "tmp").glob("signcache-serve-*/uploads/*")) == []


def test_a_live_session_says_what_it_sees_in_frames_as_they_come(serving: Serving) -> None:
    from websockets.sync.client import connect

    with connect(f"{serving.url.replace('http', 'ws')}/live?rate_hz=25", open_timeout=PATIENCE, close_timeout=PATIENCE) as socket:
        socket.send(b"no picture")
        assert json.loads(socket.recv(PATIENCE)) == {"error": "a frame is no whole JPEG"}
        events = []
        for number in range(62):  # the next once the last was looked at, so that none is dropped
            content = BytesIO()
            Image.fromarray(numbered(number, (64, 48))).save(content, "JPEG")
            socket.send(content.getvalue())
            events.append(json.loads(socket.recv(PATIENCE)))
        socket.send("end")
        last = json.loads(socket.recv(PATIENCE))
    assert events[0].keys() == {"seconds", "label", "probability", "word", "is_new", "sentence"}
    assert events[0]["label"] not in ("sign0", "sign1")
    assert events[-1]["label"] in ("sign0", "sign1")
    assert (last["ended"], last["seen"]) == (True, 62)
    assert last["glosses"] == [] or last["glosses"][0]["label"] in ("sign0", "sign1")


def test_a_page_of_another_site_gets_no_live_session(serving: Serving) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    asked = connect(f"{serving.url.replace('http', 'ws')}/live", additional_headers={"Origin": "https://elsewhere.example"})
    with asked as socket, pytest.raises(ConnectionClosed, match="pages of other sites"):
        socket.recv(PATIENCE)


def test_it_ends_on_sigterm_and_leaves_nothing(serving: Serving) -> None:
    assert any((serving.root / "tmp").iterdir())
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(PATIENCE) == 0
    assert [path.name for path in (serving.root / "tmp").iterdir() if path.name.startswith("signcache")] == []


def test_a_run_that_reads_more_than_one_file_is_not_served(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from pipeline.errors import UserError
    from pipeline.serving.labelling import modality_of

    with pytest.raises(UserError, match="the run reads rgb and radar of every clip, and an upload is one file"):
        modality_of(SimpleNamespace(modalities=["rgb", "radar"]))  # type: ignore[arg-type]
