"""Settings as their source published them: `--set settings=published` in place of those tuned to the corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import registry
from pipeline.cache.stage import configure
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.extraction.plan import wanted_stages
from pipeline.runs import finetuning, run_folder
from pipeline.runs.reading import Reading
from pipeline.runs.training import configured, train
from pipeline.runs.tuning import search_for
from tests.commands import run, said
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
SMALL = {"hidden": 8, "epochs": 1, "batch_size": 8}
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "lstm_late": {"stages": ("resnet50",), **SMALL, "dropout": 0.25},
    "late_fusion": {"members": ("lstm_late:seed=1", "bilstm_attention:stages=resnet50:epochs=1:hidden=8")},
}


@pytest.fixture
def signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Home, Manifest]:
    """A folder corpus with features, whose kind has published settings of two models and three stages."""
    folder = registry.create("dataset", "folder")
    stages = {"resnet50": {}, "resnet50_map": {"output": "map"}, "holistic": {"frames": 24}}
    for name, value in {"published": PUBLISHED, "published_stages": stages, "second_names": {"resnet50_map": "resnet50"}}.items():
        monkeypatch.setattr(type(folder), name, value, raising=False)
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    return home, table


def test_published_settings_stand_in_place_of_the_tuned_ones_and_what_is_set_wins(signs: tuple[Home, Manifest]) -> None:
    tuned, published = configured(signs[1], "lstm_late", {}), configured(signs[1], "lstm_late", {"settings": "published"})
    assert (tuned.model_dump()["normalize"], tuned.model_dump()["lr"]) == ("clip", 1e-3)
    found = published.model_dump()
    assert {key: found[key] for key in (*SMALL, "dropout", "stages")} == PUBLISHED["lstm_late"]
    assert (found["normalize"], found["lr"]) == ("none", 1e-4), "what the source does not say is the recipe's default"
    assert configured(signs[1], "lstm_late", {"settings": "published", "dropout": "0.5"}) == published.model_copy(update={"dropout": 0.5})
    assert configured(signs[1], "lstm_late", {"settings": "tuned"}) == tuned
    assert configured(signs[1], "lstm_late", {"settings": ""}) == tuned


def test_members_of_a_published_ensemble_have_published_settings_too(signs: tuple[Home, Manifest]) -> None:
    found = configured(signs[1], "late_fusion", {"settings": "published"})
    lstm, bilstm = (part.model_dump() for part in found.parts)
    assert (lstm["dropout"], lstm["normalize"], lstm["epochs"]) == (0.25, "none", 1)
    assert (bilstm["weight_decay"], bilstm["stages"]) == (2e-4, ("resnet50",))


@pytest.mark.parametrize(
    ("model", "settings", "text"),
    [
        ("lstm_late", "publshed", r"no settings called 'publshed'; did you mean 'published'\? Known: tuned, published"),
        (
            "transformer",
            "published",
            r"signs \(corpus folder\) has no published settings of 'transformer'; it has those of lstm_late, late_fusion; "
            r"without settings=published, it has its own",
        ),
    ],
)
def test_settings_that_are_not_there_are_one_line(signs: tuple[Home, Manifest], model: str, settings: str, text: str) -> None:
    with pytest.raises(UserError, match=f"^{text}$"):
        configured(signs[1], model, {"settings": settings})


def test_a_corpus_without_a_source_says_so(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    text = r"^signs \(corpus folder\) has no published settings of {}; no system that published any is known for it; "
    with pytest.raises(UserError, match=text.format("'lstm_late'")):
        configured(table, "lstm_late", {"settings": "published"})
    with pytest.raises(UserError, match=text.format("stages")):
        wanted_stages(home, table, (), {"settings": "published"})


def test_a_run_says_where_its_settings_come_from_and_so_does_its_report(signs: tuple[Home, Manifest]) -> None:
    output = run(signs[0], "train", "signs", "lstm_late", "--set", "settings=published", "--set", "lr=0.01", "--device", "cpu", "--json")
    document = json.loads(output.stdout.splitlines()[-1])
    record = run_folder.read(document["run"]).record
    assert record["origin"] == {"presets": ["published"], "set": {"lr": "0.01"}}
    assert "--set settings=published" in record["command"]
    page = Path(document["report"]).read_text("utf-8")
    assert "They are those of its source (settings=published); set beside them: lr=0.01." in " ".join(page.split())


def test_settings_that_are_tuned_and_published_alike_are_one_run_that_says_both(
    signs: tuple[Home, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = type(signs[1].dataset)
    monkeypatch.setattr(folder, "training", {"lstm_late": PUBLISHED["lstm_late"]})
    first = train(*signs, "lstm_late", {"settings": "published"}, device="cpu")
    assert first.record["origin"] == {"presets": ["tuned", "published"], "set": {}}
    assert train(*signs, "lstm_late", {}, device="cpu").folder == first.folder


def test_runs_side_by_side_say_which_has_published_settings(signs: tuple[Home, Manifest]) -> None:
    home = signs[0]
    lines: tuple[dict[str, str], ...] = ({"settings": "published"}, {"epochs": "1", "hidden": "8"})
    printed = said(home, "report", *(train(*signs, "lstm_late", line, device="cpu").folder for line in lines))
    assert printed.count("settings=published") == 1


def test_members_of_a_run_do_not_say_what_the_whole_was_asked(signs: tuple[Home, Manifest]) -> None:
    whole = train(*signs, "late_fusion", {"settings": "published"}, device="cpu")
    assert whole.record["origin"]["presets"] == ["published"]
    members = [run_folder.read(path.parent) for path in whole.folder.parents[1].glob("*/*/run.json") if path.parent != whole.folder]
    assert len(members) == 2
    assert all("origin" not in member.record for member in members)


def test_a_search_may_start_from_published_settings(signs: tuple[Home, Manifest]) -> None:
    search = search_for(*signs, "lstm_late", {"settings": "published"}, device="cpu")
    assert search.recipe.model_dump()["normalize"] == "none"
    assert {"hidden", "lr"} <= search.space.keys()


def test_the_stages_of_published_settings_are_extracted_by_the_same_word(signs: tuple[Home, Manifest]) -> None:
    home, table = signs
    found = {stage.name: stage for stage in wanted_stages(home, table, (), {"settings": "published"})}
    assert list(found) == ["resnet50", "resnet50_map", "holistic"]
    assert found["resnet50_map"].extractor == registry.create("stage", "resnet50", {"output": "map"})
    assert found["holistic"].extractor == registry.create("stage", "holistic", {"frames": 24})
    assert found["holistic"].settings == {}, "they are the corpus', not those of --set"
    assert [stage.name for stage in wanted_stages(home, table, (), {})] == ["resnet50"]
    assert configure(home, table, "resnet50_map").extractor == found["resnet50_map"].extractor
    faster = wanted_stages(home, table, (), {"settings": "published", "holistic.frames": "12"})
    assert {stage.name: stage for stage in faster}["holistic"].settings == {"frames": 12}


def test_published_settings_of_a_stage_that_has_none_are_refused(signs: tuple[Home, Manifest]) -> None:
    text = r"signs \(corpus folder\) has no published settings of stage 'i3d'; it has those of resnet50, resnet50_map, holistic"
    with pytest.raises(UserError, match=text):
        wanted_stages(*signs, ["i3d"], {"settings": "published"})


def test_a_published_stage_without_media_is_named_in_a_note(signs: tuple[Home, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(signs[1].dataset), "published_stages", {"resnet50": {}, "radar_cnn": {}})
    printed = said(signs[0], "plan", "signs", "--set", "settings=published")
    assert "note: no clip of signs has radar media, so its defaults are without radar_cnn" in printed


def test_a_stage_that_only_published_settings_read_is_named_where_it_is_not_extracted(signs: tuple[Home, Manifest]) -> None:
    text = r"signs has no features of 'resnet50_map'; published: resnet50; run: signcache extract signs resnet50_map"
    with pytest.raises(UserError, match=text):
        train(*signs, "frame_cnn", {}, device="cpu")


def test_finetuning_takes_published_settings_of_its_training(signs: tuple[Home, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):
        """The recipe that would be trained, and where its settings come from."""

    def seen(trainer: Any, model: str, recipe: Any, *more: Any, **given: Any) -> None:
        raise Seen(recipe, trainer.origin)

    monkeypatch.setattr(finetuning, "_prepare", lambda *given: None)
    monkeypatch.setattr(finetuning, "read_for", lambda home, table, *more, **given: (Reading(table, {}, ()), {}))
    monkeypatch.setattr(finetuning, "trained", seen)
    monkeypatch.setattr(type(signs[1].dataset), "published", {"finetuned": {"stages": ("i3d",), "head_epochs": 0, "dropout": 0.4}})
    with pytest.raises(Seen) as found:
        finetuning.finetune(*signs, "resnet50", {"settings": "published", "dropout": "0.1", "weights": "random:0"})
    said, origin = found.value.args[0].model_dump(), found.value.args[1]
    assert origin == {"presets": ["published"], "set": {"dropout": "0.1"}}
    assert (said["head_epochs"], said["dropout"], said["kind"]) == (0, 0.1, "resnet50")
    assert said["stages"] == ("resnet50.items",), "what is trained is the command's to say"
    with pytest.raises(UserError, match=r"no settings called 'publishd'; did you mean 'published'\?"):
        finetuning.finetune(*signs, "resnet50", {"settings": "publishd"})
