"""The model card of a run: beside its report, true to its result, and text whatever the labels are."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.reports import report
from pipeline.runs import run_folder
from pipeline.runs.packaging.card import CARD, UNKNOWN_LICENCE, card, text, write
from pipeline.runs.run_folder import Run
from tests.reports.test_report import CLASSES, IDENTITY, RECORD, run_in


def written(folder: Path) -> str:
    return write(run_in(folder)).read_text("utf-8")


def carded(run: Run, **result: Any) -> str:
    """The card of a run with this in its result."""
    return card(replace(run, result={**run.scores, **result}), {}, UNKNOWN_LICENCE)


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_it_is_written_with_the_report_and_leads_with_what_hubs_read(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    report.write(run)
    page = (tmp_path / CARD).read_text("utf-8")
    lead = json.loads(page.split("---\n")[1])
    assert lead["license"] == "unknown"
    (result,) = lead["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "accuracy": run.scores["top1"],
        "f1": run.scores["macro_f1"],
    }
    assert result["dataset"]["split"] == run.scores["split"]


def test_its_figures_are_those_of_the_result_with_their_interval(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    found = section(carded(run, selected_on_scored=False), "Scores")
    assert f"Of {run.scores['n']} clips, test, none of which trained it or selected its weights." in found
    assert f"| top-1 | {run.scores['top1']:.1%} | too few groups for one |" in found
    spread = {"low": 0.5, "high": 0.875, "by": "signer"}
    assert f"| top-1 | {run.scores['top1']:.1%} | 50.0% to 87.5%, by signer |" in carded(run, interval=spread)
    assert "none of which trained it" not in carded(run, selected_on_scored=True)
    assert "none of which trained it" not in carded(run), "a run of before does not say"


def test_doubts_of_the_training_are_told_and_their_absence_too(tmp_path: Path) -> None:
    assert section(written(tmp_path), "Doubts").strip() == r"- &lt;img src=x onerror=alert(2)&gt;"
    run = run_in(tmp_path)
    clean = card(replace(run, record={**run.record, "warnings": []}), {}, UNKNOWN_LICENCE)
    assert "None were found: no clip that scored holds the same bytes as one that trained it" in section(clean, "Doubts")


def test_whatever_labels_are_they_stay_text_on_one_line(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "<script>" not in page.partition("---\n\n")[2]
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;, $x\_\{, 水 &amp; salt, plain." in page
    assert text("a|b\n# c `d` [e](f)") == r"a\|b # c \`d\` \[e\](f)"
    run = run_in(tmp_path)
    folder = {**RECORD, "command": "signcache train signs lstm_late --set a=b\n```\n# not a title"}
    lines = card(replace(run, record=folder), {}, UNKNOWN_LICENCE).splitlines()
    assert "    signcache train signs lstm_late --set a=b ``` # not a title" in lines
    assert not [line for line in lines if line.startswith("# not")]


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (IDENTITY, "torchvision's, BSD-3-Clause; they learned from ImageNet, whose images are for non-commercial research"),
        ({**IDENTITY, "weights": {"sha256": "9f86d081" * 8}}, "of who made the file; not known here"),
        ({**IDENTITY, "weights": None, "libraries": {"mediapipe": "0.10.14"}}, "MediaPipe's own models, Apache-2.0"),
        ({**IDENTITY, "weights": {"random": 0}}, None),
        (None, None),
    ],
)
def test_the_licence_of_the_weights_of_every_stage_is_said(tmp_path: Path, identity: dict[str, Any] | None, said: str | None) -> None:
    page = section(card(run_in(tmp_path), {"resnet50": identity}, "CC-BY-4.0"), "Licence")
    assert "- Of the trained weights: CC-BY-4.0." in page
    assert re.findall(r"- Of the weights of resnet50: (.*)\.\n", page) == ([said] if said else [])


def test_weights_in_a_file_tell_who_trained_them_on_what_and_whose_licence_holds(tmp_path: Path) -> None:
    training = {"run": "4be1a2c3", "stage": "resnet50", "dataset": "<signs>", "part": "", "seed": 0, "began": "IMAGENET1K_V2"}
    told = {"learned": "18 clips of 2 signers (anna, bert)", "selected": "6 clips of 1 signers (carl)"}
    identity = {**IDENTITY, "weights": {"sha256": "9f86d081" * 8}}
    run = run_in(tmp_path)

    def page(start: dict[str, str]) -> str:
        histories = {"resnet50": [{**training, **told, "start": start}]}
        stages = {"features": {**run.record["stages"]["resnet50"], "histories": histories}}
        record = {**run.record, "stages": stages, "begins": histories}
        return card(replace(run, record=record), {"resnet50": identity}, UNKNOWN_LICENCE)

    found = page({"name": "IMAGENET1K_V2", "hash": "11ad3fa6"})
    line = r"run 4be1a2c3 trained resnet50 on &lt;signs&gt;, seed 0: learned 18 clips of 2 signers (anna, bert); selected on 6 clips of "
    assert f"\n  - {line}1 signers (carl); began with IMAGENET1K\\_V2." in section(found, "Reads")
    assert f"- The weights of resnet50 that it began with: {line}" in section(found, "Learned from")
    licences = re.findall(r"- Of the weights of resnet50: (.*)\.\n", section(found, "Licence"))
    assert licences[0] == "trained by signcache on clips of &lt;signs&gt;, whose licence holds for them"
    assert "whose images are for non-commercial research" in licences[1]
    assert "they began with a file of which nothing is known here" in page({"sha256": "00"})
    assert "not known here." in card(run, {"resnet50": identity}, UNKNOWN_LICENCE), "a run of before does not say"


def test_settings_seed_and_stages_are_said_so_that_it_can_be_done_again(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "- resnet50: ResNet50 of rgb, weights IMAGENET1K\\_V2" in section(page, "Reads")
    assert {"    signcache train signs lstm_late --seed 1", "- lr: 0.0001", "- stages: resnet50"} <= set(
        section(page, "Training").splitlines()
    )
    assert "train 18, val 6, test 8" in section(page, "Learned from")
    assert "1 clips were left out" in section(page, "Learned from")


def test_a_run_of_before_without_some_facts_has_a_card_too(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    bare = {key: value for key, value in run.record.items() if key not in ("learned", "warnings", "dropped", "origin")}
    kept = ("n", "top1", "top5", "macro_f1", "split")
    old = Run(run.folder, bare, {key: run.scores[key] for key in kept})
    assert f"Labels a clip as one of {len(CLASSES)} classes" in card(old, {}, UNKNOWN_LICENCE)


def test_a_run_of_a_checkpoint_claims_nothing_that_its_file_does_not_say(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    record = {**run.record, "imported": {"file": "best.pt"}}
    scored = card(replace(run, record=record, result={**run.scores, "selected_on_scored": False}), {}, UNKNOWN_LICENCE)
    assert "none of which trained it" not in scored
    assert "which does not say what they learned from" in section(scored, "Learned from")
    unscored = card(replace(run, record=record, result={"split": "test"}), {}, UNKNOWN_LICENCE)
    assert section(unscored, "Scores").strip() == "It was not scored."
    assert "model-index" not in json.loads(unscored.split("---\n")[1])


def test_an_unfinished_run_has_none(tmp_path: Path) -> None:
    from pipeline.errors import UserError

    run_folder.write_record(tmp_path, RECORD)
    with pytest.raises(UserError, match="is unfinished; start its training again"):
        write(run_folder.read(tmp_path))
