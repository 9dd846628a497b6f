"""Weights that have seen scored clips are named, by content and signer, wherever their rows go; folds need weights of each fold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.noise import CHANCE, LATE, Noisy, sets, started, write


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Noisy]:
    with started(tmp_path_factory.mktemp("leak")) as made:
        yield made


@pytest.fixture(scope="module")
def leaked(noisy: Noisy) -> dict[str, Any]:
    """The network that has learned all clips, test clips among them; `honest` holds its rows as `leaked`."""
    made = noisy.finetuned("leaky")
    noisy.run("extract", "honest", "noise", "--as", "leaked", "--set", f"weights=run:{made['run']}")
    return made


def test_a_planted_leak_is_seen_in_the_score_and_named(noisy: Noisy, leaked: dict[str, Any]) -> None:
    result, said = noisy.trained("leaked")
    assert result["top1"] > 0.9
    line = f"the weights of leaked (run {Path(leaked['run']).name[:8]} on leaky) have seen 40 of 40 test clips: learned 40"
    assert line in said
    page = Path(result["report"]).read_text()
    assert line in page
    assert "leaked: run" in page
    told = f"run {Path(leaked['run']).name} trained noise on leaky, seed 0: learned 64 clips of 5 signers (t0, t1, t2, xs0, xs1)"
    assert told in page
    card = (Path(result["run"]) / "MODEL_CARD.md").read_text()
    assert "- leaked: Noise of signal, weights file " in card
    assert f"  - {told}; selected on 8 clips" in card
    assert "trained by signcache on clips of leaky, whose licence holds for them" in card
    assert line in noisy.run("evaluate", result["run"])[1]


def test_trained_honestly_it_is_chance_and_nothing_is_said(noisy: Noisy) -> None:
    made = noisy.finetuned("honest")
    noisy.run("extract", "honest", "noise", "--as", "own", "--set", f"weights=run:{made['run']}")
    result, said = noisy.trained("own")
    assert abs(result["top1"] - CHANCE) < 0.25
    assert "seen" not in said
    _, validation = noisy.run("evaluate", result["run"], "--split", "train")
    assert "have seen 24 of 24 train clips: learned 24" in validation


def test_clips_that_weights_were_selected_on_are_seen_too(noisy: Noisy, leaked: dict[str, Any]) -> None:
    shutil.copytree(noisy.folder / "honest", noisy.folder / "swapped")
    for split, other in (("test", "aside"), ("val", "test"), ("aside", "val")):
        (noisy.folder / "swapped" / split).rename(noisy.folder / "swapped" / other)
    noisy.run("manifest", "swapped", "--corpus", "noise", "--root", noisy.folder / "swapped")
    noisy.run("extract", "swapped", "noise", "--set", f"weights={leaked['weights']}")
    _, said = noisy.run("train", "swapped", "lstm_late", *sets((*LATE[:-2], "epochs=2", "stages=noise")))
    assert "have seen 8 of 8 test clips: selected on 8, so the scores flatter" in said


def test_a_copied_file_keeps_its_story_and_a_derived_stage_inherits_it(noisy: Noisy, leaked: dict[str, Any]) -> None:
    copy = noisy.folder / "elsewhere.safetensors"
    shutil.copy(leaked["weights"], copy)
    noisy.run("extract", "honest", "noise", "--as", "copied", "--set", f"weights={copy}")
    noisy.run("extract", "honest", "double", "--set", "source=stage:copied")
    _, said = noisy.trained("double", "--set", "epochs=1")
    assert "the weights of copied (run " in said
    assert "have seen 40 of 40 test clips" in said


def test_show_and_doctor_tell_who_trained_the_weights_on_what(noisy: Noisy, leaked: dict[str, Any]) -> None:
    clip = "test/s0/a_40"
    words = noisy.run("show", "honest", "leaked", clip)[0]
    told = f"weights   leaked: run {Path(leaked['run']).name} trained noise on leaky, seed 0: "
    assert f"{told}learned 64 clips of 5 signers (t0, t1, t2, xs0, xs1)" in words
    assert f"top-1 {leaked['top1']:.1%} on val" in words
    assert "selected on 8 clips of 1 signers (v0)" in words
    assert "began with random:0" in words
    assert "honest/leaked" in noisy.run("doctor")[0]
    document = json.loads(noisy.run("show", "honest", "leaked", clip, "--json")[0])
    assert len(document["weights"][0]["learned_from"]["clips"]) == 72


def test_weights_that_say_nothing_are_unknown_and_random_ones_random(noisy: Noisy, leaked: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(leaked["weights"]), noisy.folder / "plain.pt")
    noisy.run("extract", "honest", "noise", "--as", "plain", "--set", f"weights={noisy.folder / 'plain.pt'}")
    assert "which says nothing of what it learned from: unknown" in noisy.run("show", "honest", "plain", "test/s0/a_40")[0]
    noisy.run("extract", "honest", "noise", "--as", "drawn", "--set", "weights=random:3")
    assert "weights   drawn: random:3, untrained" in noisy.run("show", "honest", "drawn", "test/s0/a_40")[0]
    assert "seen" not in noisy.trained("plain", "--set", "epochs=1")[1]


def test_signers_that_weights_have_seen_are_named(noisy: Noisy) -> None:
    made = noisy.finetuned("others", "--set", "epochs=1")
    noisy.run("extract", "honest", "noise", "--as", "strange", "--set", f"weights=run:{made['run']}")
    _, said = noisy.trained("strange", "--set", "epochs=1")
    assert "on others) learned from 1 signer of the test clips, so the scores say little of new signers (first: s0)" in said


def test_folds_are_refused_on_rows_whose_weights_have_seen_their_clips(noisy: Noisy, leaked: dict[str, Any]) -> None:
    line = noisy.refused("train", "honest", "lstm_late", *sets((*LATE, "stages=leaked")), "--folds", 2)
    assert "fold 1 of 2: the weights of leaked (run " in line
    assert (
        "train them fold by fold, which gives each fold a backbone: signcache finetune honest noise --folds 2 --seed 0, and then: " in line
    )


def test_a_training_that_begins_with_weights_that_have_seen_what_it_scores_says_so(noisy: Noisy, leaked: dict[str, Any]) -> None:
    words = ("finetune", "honest", "noise", *sets(("epochs=1", f"noise.weights=run:{leaked['run']}")))
    assert "have seen 40 of 40 test clips" in noisy.run(*words)[1]
    assert "begin with other weights" in noisy.refused(*words, "--folds", 2)


def test_weights_trained_fold_by_fold_are_chance_on_noise_and_fold_alike(noisy: Noisy) -> None:
    made = noisy.finetuned("honest", "--folds", 2)
    _, said = noisy.run("extract", "honest", "noise", "--as", "tuned", "--set", f"weights=run:{made['run']}")
    assert all(f"tuned.fold{number}: 72 clips extracted" in said for number in (1, 2))
    result, said = noisy.trained("tuned", "--folds", 2)
    assert "note: tuned is read by the weights of each fold, as tuned.fold1 and so on" in said
    assert abs(result["top1"] - CHANCE) < 0.3
    assert "seen" not in said
    line = noisy.refused("train", "honest", "lstm_late", *sets((*LATE, "stages=tuned")), "--folds", 2, "--seed", 1)
    assert (
        "they are of another cut (fold 1 of 2, seed 0) than this one (2 folds, seed 1): fold alike, or train them again by this cut" in line
    )
    for other in ((), ("--folds", 3)):
        line = noisy.refused("train", "honest", "lstm_late", *sets((*LATE, "stages=tuned")), *other)
        assert "its weights were trained in 2 folds, and are read by a training of as many: --folds 2" in line
    assert "by the weights of each fold, so its models score their own folds only" in noisy.refused(
        "evaluate", result["run"], "--split", "test"
    )


def test_where_all_clips_are_of_one_signer_folds_part_clips_and_not_signers(noisy: Noisy) -> None:
    write(noisy.folder / "alone", "train", ("only",), 16, 7)
    write(noisy.folder / "alone", "val", ("only",), 8, 8)
    noisy.run("manifest", "alone", "--corpus", "noise", "--root", noisy.folder / "alone")
    made = noisy.finetuned("alone", "--set", "epochs=1", "--folds", 2)
    noisy.run("extract", "alone", "noise", "--set", f"weights=run:{made['run']}")
    noisy.run("train", "alone", "lstm_late", *sets((*LATE, "epochs=1", "stages=noise")), "--folds", 2)


def test_what_weights_learned_from_stays_after_a_clean_up_and_damage_to_it_is_one_line(noisy: Noisy, leaked: dict[str, Any]) -> None:
    noisy.run("extract", "honest", "noise", "--as", "kept", "--set", f"weights={leaked['weights']}")
    noisy.run("gc", "honest", "kept", "--yes")
    assert "trained noise on leaky" in noisy.run("show", "honest", "kept", "test/s0/a_40")[0]
    (story,) = (noisy.folder / "cache/honest/kept").glob("*/.learned")
    story.write_text("{")
    assert ".learned is damaged (" in noisy.refused("show", "honest", "kept", "test/s0/a_40")
