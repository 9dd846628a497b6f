"""Glosses as files come back as they were, open where such files open, and are scored against one another."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from pipeline.errors import UserError
from pipeline.spotting import files, overlay
from pipeline.spotting.glosses import Gloss
from pipeline.spotting.scoring import gloss_errors, overlap, score, segment_f1
from tests.video_files import write_clip

VIDEO = Path("/videos/a long one.mp4")
LABELS = some.sampled_from(["HELLO", "you (plural)", "1. loud", "<b> & 'co' --> x", "später", 'says "no", twice', "愛"])
MADE = [Gloss("HELLO", 0.5, 1.75, 0.93), Gloss("<b> & 'co' --> x", 2.0, 3661.25, 0.5), Gloss("später", 3662.0, 3662.5, 1.0)]


def apart(parts: list[tuple[str, int, int, float]]) -> list[Gloss]:
    """Glosses one after the other, in whole milliseconds."""
    found, at = [], 0
    for label, pause, length, probability in parts:
        found.append(Gloss(label, (at + pause) / 1000, (at + pause + length) / 1000, round(probability, 6)))
        at += pause + length
    return found


GLOSSES = some.lists(some.tuples(LABELS, some.integers(0, 9999), some.integers(1, 99999), some.floats(0.001, 1)), max_size=8).map(apart)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".eaf"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(glosses=GLOSSES)
def test_a_file_comes_back_as_it_was_written(suffix: str, tmp_path: Path, glosses: list[Gloss]) -> None:
    files.write(tmp_path / f"glosses{suffix}", glosses, VIDEO)
    assert files.read(tmp_path / f"glosses{suffix}") == glosses


def test_subtitles_come_back_without_their_probabilities_and_hold_no_markup(tmp_path: Path) -> None:
    files.write(tmp_path / "a.vtt", MADE, VIDEO)
    text = (tmp_path / "a.vtt").read_text()
    assert text.startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.750\nHELLO\n\n00:00:02.000 --> 01:01:01.250\n")
    assert "&lt;b&gt; &amp; 'co' --&gt; x" in text
    assert files.read(tmp_path / "a.vtt") == [Gloss(each.label, each.start, each.end, 1.0) for each in MADE]


def test_csv_and_json_are_plain(tmp_path: Path) -> None:
    for suffix in (".csv", ".json"):
        files.write(tmp_path / f"a{suffix}", MADE, VIDEO)
    with open(tmp_path / "a.csv", newline="") as file:
        assert next(csv.reader(file)) == ["label", "start", "end", "probability"]
    assert json.loads((tmp_path / "a.json").read_text())["glosses"][0] == {"label": "HELLO", "start": 0.5, "end": 1.75, "probability": 0.93}


def test_an_eaf_is_what_elan_reads(tmp_path: Path) -> None:
    """By the rules of its schema (EAFv2.8 and later) that a reader depends on: order of parts, references, times."""
    files.write(tmp_path / "a.eaf", MADE, VIDEO)
    root = ElementTree.parse(tmp_path / "a.eaf").getroot()  # noqa: S314  # written here
    assert root.tag == "ANNOTATION_DOCUMENT"
    assert {"AUTHOR", "DATE", "FORMAT", "VERSION"} <= root.attrib.keys()
    parts = [child.tag for child in root]
    assert parts == sorted(parts, key=["LICENSE", "HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LOCALE", "CONSTRAINT"].index)
    header = root.find("HEADER")
    assert header is not None
    media = header.find("MEDIA_DESCRIPTOR")
    assert header.attrib.get("TIME_UNITS", "milliseconds") == "milliseconds"
    assert media is not None
    assert (media.attrib["MEDIA_URL"], media.attrib["MIME_TYPE"]) == ("file:///videos/a%20long%20one.mp4", "video/mp4")
    assert media.attrib["RELATIVE_MEDIA_URL"] == "./a long one.mp4"
    slots = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")}
    types = {each.attrib["LINGUISTIC_TYPE_ID"] for each in root.iter("LINGUISTIC_TYPE")}
    assert {tier.attrib["TIER_ID"] for tier in root.iter("TIER")} == {"glosses", "probability"}
    assert all(tier.attrib["LINGUISTIC_TYPE_REF"] in types for tier in root.iter("TIER"))
    annotations = list(root.iter("ALIGNABLE_ANNOTATION"))
    assert len({each.attrib["ANNOTATION_ID"] for each in annotations}) == 2 * len(MADE)
    for each in annotations:
        assert re.fullmatch(r"[A-Za-z_][\w.-]*", each.attrib["ANNOTATION_ID"])
        assert slots[each.attrib["TIME_SLOT_REF1"]] < slots[each.attrib["TIME_SLOT_REF2"]]


def test_an_eaf_that_people_made_is_read_by_its_tier(tmp_path: Path) -> None:
    from pympi.Elan import Eaf

    eaf = Eaf(author="someone")
    eaf.remove_tier("default")
    eaf.add_tier("Gloss RH")
    eaf.add_annotation("Gloss RH", 100, 900, "HELLO")
    eaf.to_file(str(tmp_path / "one.eaf"))
    assert files.read(tmp_path / "one.eaf") == [Gloss("HELLO", 0.1, 0.9, 1.0)]
    eaf.add_tier("Translation")
    eaf.add_annotation("Translation", 100, 2000, "Hello there")
    eaf.to_file(str(tmp_path / "two.eaf"))
    assert files.read(tmp_path / "two.eaf", "Translation") == [Gloss("Hello there", 0.1, 2.0, 1.0)]
    with pytest.raises(UserError, match=r"no tier 'glosses'; it has 'Gloss RH', 'Translation'; choose with --tier"):
        files.read(tmp_path / "two.eaf")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "label,begin\nHELLO,1\n", "no column or key 'start'"),
        ("a.csv", "label,start,end\nHELLO,2,1\n", "'HELLO' lasts from 2.0 to 1.0 seconds; expected start before end"),
        ("a.json", "[", "cannot read glosses from"),
        ("a.vtt", "1\n00:01 --> 00:02\nHELLO\n", "it does not begin with WEBVTT"),
        ("a.eaf", "<ANNOT", "cannot read glosses from"),
        ("a.txt", "", "glosses are read from .json, .csv, .vtt, .eaf"),
        ("gone.csv", None, "No such file"),
        ("gone.eaf", None, "No such file"),
    ],
)
def test_a_file_that_holds_no_glosses_is_one_line(tmp_path: Path, name: str, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(reason)) as raised:
        files.read(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_gloss_is_written_on_the_frames_that_show_it(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "in.mp4", 40, size=(160, 120), draw=lambda number, size: np.full((size[1], size[0], 3), 200, np.uint8))
    overlay.write(tmp_path / "out.mp4", video, [Gloss("HELLO", 0.4, 0.8, 0.9)])
    with av.open(str(tmp_path / "out.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate or 0) == 25
    assert len(images) == 40
    assert images[0].shape == (120, 160, 3)
    written = [number for number, image in enumerate(images) if image[-6:].mean() < 100]
    assert written == list(range(10, 20))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def levenshtein(one: list[str], other: list[str]) -> int:
    if not one or not other:
        return len(one) + len(other)
    return min(levenshtein(one[1:], other[1:]) + (one[0] != other[0]), levenshtein(one[1:], other) + 1, levenshtein(one, other[1:]) + 1)


@given(found=some.lists(some.sampled_from("ABC"), max_size=5), truth=some.lists(some.sampled_from("ABC"), max_size=5))
def test_errors_are_the_fewest_changes(found: list[str], truth: list[str]) -> None:
    errors = gloss_errors(found, truth)
    assert errors.total == levenshtein(found, truth)
    assert len(found) - errors.inserted == len(truth) - errors.missed
    assert min(errors.substituted, errors.missed, errors.inserted) >= 0


def test_scores_of_what_was_found() -> None:
    truth = [Gloss("A", 0, 2, 1), Gloss("B", 3, 5, 1), Gloss("A", 6, 8, 1)]
    found = [Gloss("A", 0, 2, 1), Gloss("B", 3.5, 4, 1), Gloss("C", 5.2, 5.8, 1), Gloss("A", 6, 9, 1)]
    assert overlap(found[1], truth[1]) == 0.25
    said = score(found, truth)
    assert said["gloss_error_rate"] == pytest.approx(1 / 3)
    assert (said["substituted"], said["missed"], said["inserted"]) == (0, 0, 1)
    assert said["f1"] == {"0.1": pytest.approx(6 / 7), "0.25": pytest.approx(6 / 7), "0.5": pytest.approx(4 / 7)}
    assert segment_f1([], [], 0.5) == 1
    assert segment_f1([truth[0], truth[0]], truth[:1], 0.5) == pytest.approx(2 / 3)
