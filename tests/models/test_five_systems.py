"""The table of models/README.md is held against the code: what it says can be typed, and its figures are those of the README."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from pipeline import registry
from pipeline.cache.stage import configure, source_of
from pipeline.cli import main
from pipeline.commands.options import pairs
from pipeline.corpus.manifest import Binding, Home, Manifest
from pipeline.corpus.presets import PUBLISHED, models_of, stages_of
from pipeline.extraction.plan import wanted_stages
from pipeline.runs.training import configured
from pipeline.types import STAGE_PREFIX, Sample, has_network

ROOT = Path(__file__).parents[2]
COLUMNS = ("system", "as published", "claim", "ours", "figure", "differs")


def rows() -> list[dict[str, str]]:
    return table("five systems", COLUMNS)


def table(heading: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of the table below a heading."""
    text = (ROOT / "models/README.md").read_text("utf-8").partition(f"{heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [dict(zip(columns, map(str.strip, line[1:-1].split("|")), strict=True)) for line in lines[1:]]


def lines_of(cell: str) -> list[str]:
    """What a cell says to type."""
    return [code for code in re.findall(r"`([^`]+)`", cell) if code.startswith("signcache ")]


def named(row: Mapping[str, str], column: str) -> list[str]:
    """The lines of a cell, once for each corpus that the system's name says for `NAME`."""
    corpora = re.findall(r"`(\w+)`", row["system"].partition("`NAME`")[2])
    return [line.replace(" NAME ", f" {corpus} ") for line in lines_of(row[column]) for corpus in (corpora if " NAME " in line else [""])]


LINES = [line for row in rows() for column in ("as published", "ours") for line in named(row, column)]


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The command of a line and what click makes of its words; raises click's error where it takes no such option."""
    name, *words = shlex.split(line)[1:]
    command = main.commands[name]
    with click.Context(main) as above, command.make_context(name, words, parent=above) as context:
        return name, context.params


def of_one_clip(corpus: str) -> Manifest:
    """A corpus of one clip that has whatever media its published stages read."""
    table = Manifest(corpus, Binding(corpus, ROOT, "official", 0), (), ())
    sources = {source_of(table, stage) for stage in stages_of(table.dataset, PUBLISHED) or table.dataset.stages}
    media = {source: ("clip",) for source in sources if not source.startswith(STAGE_PREFIX)}
    return replace(table, samples=(Sample("clip", media, None, "train", None),))


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_table_is_one_that_the_code_takes(line: str, tmp_path: Path) -> None:
    command, given = parsed(line.replace("weights=run:RUN", "weights=random:0"))
    table, settings = of_one_clip(given["name"]), pairs(given["settings"])
    if command == "train":
        assert configured(table, given["model"], settings).stages
    elif command == "finetune":
        assert has_network(configure(Home(tmp_path, tmp_path), table, given["stage"]).extractor)
        assert configured(table, given["model"], settings)
    else:
        assert wanted_stages(Home(tmp_path, tmp_path), table, given.get("stages") or (), settings, given.get("second_name") or "")


def test_gains_are_the_differences_of_their_figures_and_their_lines_are_taken() -> None:
    for row in table("What single parts gain", ("part", "line", "seeds", "gain")):
        _, given = parsed(row["line"].strip("`"))
        assert configured(of_one_clip(given["name"]), given["model"], pairs(given["settings"])).stages
        figures = [tuple(map(float, pair)) for pair in re.findall(r"\d: (\d+\.\d), (\d+\.\d)", row["seeds"])]
        gains = re.findall(r"([+-]\d+\.\d) \((-?\d+\.\d) to (-?\d+\.\d)\)", row["gain"])
        assert len(figures) == len(gains) > 0
        for (without, own), (gain, low, high) in zip(figures, gains, strict=True):
            assert own - without == pytest.approx(float(gain), abs=0.11)
            assert float(low) < float(gain) < float(high)


def test_each_of_the_five_systems_has_a_line_as_published_and_one_of_ours() -> None:
    assert len(rows()) == 5
    for row in rows():
        assert any("settings=published" in line for line in lines_of(row["as published"])), row["system"]
        assert lines_of(row["ours"]), row["system"]


def test_no_corpus_with_published_settings_is_left_out_of_the_table() -> None:
    said = {parsed(line)[1]["name"] for line in LINES if "settings=published" in line}
    assert said >= {name for name in registry.names("dataset") if models_of(registry.create("dataset", name), PUBLISHED)}


def test_figures_of_the_table_are_those_of_the_readme() -> None:
    results = (ROOT / "README.md").read_text("utf-8").partition("## Results")[2].partition("\n## ")[0]
    for row in rows():
        figures = re.findall(r"\d+\.\d+", row["figure"])
        assert figures or "not measured" in row["figure"], row["system"]
        assert set(figures) <= set(re.findall(r"\d+\.\d+", results)), row["system"]
