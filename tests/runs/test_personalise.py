"""A run adapted to a few clips of one signer: the layer beside a plain fit, clips left out, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.errors import UserError
from pipeline.learning.network import NetworkPredictor
from pipeline.runs.personal.adapting import Seen, adapt, changes, left_out, seen_by
from pipeline.testing.models import built, small, table_of
from tests.commands import run
from tests.runs.test_predict import Trained, learned, write_frames

torch.set_num_threads(1)


def clips(count: int = 8) -> tuple[Seen, np.ndarray[Any, np.dtype[np.int64]], nn.Linear]:
    """What a layer of three classes is given of clips of a signer whom it takes for another."""
    torch.manual_seed(0)
    head, labels = nn.Linear(5, 3).double(), np.arange(count) % 3
    given = torch.randn(3, 5)[labels] + 0.2 * torch.randn(count, 5)
    return Seen(given.double().numpy(), head(given.double()).detach().numpy()), labels, head


def test_the_layer_is_the_least_of_cross_entropy_and_its_squared_change() -> None:
    seen, labels, head = clips()
    start = [values.detach().clone() for values in head.parameters()]
    given, unit = torch.from_numpy(seen.given), float((seen.given**2).sum(1).mean() + 1)
    plain = nn.Linear(5, 3).double()
    plain.load_state_dict(head.state_dict())
    optimizer = torch.optim.LBFGS(plain.parameters(), max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14)

    def cost() -> float:
        optimizer.zero_grad()
        changed = sum(((values - before) ** 2).sum() for values, before in zip(plain.parameters(), start, strict=True))
        loss = cross_entropy(plain(given), torch.from_numpy(labels), reduction="sum") + 0.5 / 2 * unit * changed
        torch.autograd.backward(loss)
        return loss.item()

    optimizer.step(cost)  # type: ignore[no-untyped-call]
    adapt(head, seen, labels, 0.5)
    for found, expected in zip(head.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(head.weight, start[0], atol=0.05)


def test_a_clip_is_scored_by_a_layer_that_never_saw_it() -> None:
    seen, labels, _ = clips()
    found = left_out(seen, labels, 1.0)
    other = labels.copy()
    other[3] = (labels[3] + 1) % 3
    np.testing.assert_array_equal(left_out(seen, other, 1.0)[3], found[3])
    for clip in (0, 3):
        head = clips()[2]
        others = [number for number in range(8) if number != clip]
        change = changes(seen, labels, 1.0, others)
        assert not change[clip].any()
        wide = np.pad(seen.given, ((0, 0), (0, 1)), constant_values=1)
        step = change.T @ wide / (wide**2).sum(1).mean()
        with torch.no_grad():
            head.weight.add_(torch.from_numpy(step[:, :-1]))
            head.bias.add_(torch.from_numpy(step[:, -1]))
            np.testing.assert_allclose(head(torch.from_numpy(seen.given[clip])).numpy(), found[clip], rtol=1e-9)


def test_a_layer_that_is_held_on_to_stays_what_it_is() -> None:
    seen, labels, head = clips()
    before = head.weight.detach().clone()
    adapt(head, seen, labels, 1e9)
    torch.testing.assert_close(head.weight, before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm_late", "bilstm_attention", "transformer", "inception_time", "conv_transformer", "graph"])
def test_what_a_network_gives_its_last_layer_is_found(name: str) -> None:
    recipe = small(name)
    predictor, table = NetworkPredictor(built(recipe), "cpu"), table_of(recipe, [5, 1, 9, 4])
    seen = seen_by(predictor, table)
    np.testing.assert_allclose(seen.logits, predictor.logits(table.gather(np.arange(4))), rtol=1e-5, atol=1e-6)
    assert len(seen.given) == 4


class Doubled(nn.Module):
    """A network that goes on after its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, batch: Any) -> torch.Tensor:
        doubled: torch.Tensor = 2 * self.head(batch.features["resnet50"][:, 0])
        return doubled


def test_a_network_that_goes_on_after_its_last_layer_is_refused() -> None:
    table = table_of(small("lstm_late"), [5, 2])
    with pytest.raises(UserError, match="the model does more with what its last layer gives, so adapting that is no use"):
        seen_by(NetworkPredictor(Doubled(), "cpu"), table)
    with pytest.raises(UserError, match="the model has no last linear layer to its classes, which personalise adapts"):
        seen_by(NetworkPredictor(nn.Conv1d(4, 3, 1), "cpu"), table)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run, and eight clips of a signer in folders of its classes."""
    made = learned(tmp_path_factory.mktemp("personal"), new=2)
    for number in range(8):
        write_frames(made.root / "own" / f"class{number % 2}" / f"clip {number}", 200 + number % 2)
    return made


def personal(trained: Trained, place: Path, *words: object, status: int = 0) -> tuple[dict[str, Any], str]:
    done = run(trained.home, "personalise", trained.run, place, "--device", "cpu", "--json", *words)
    assert done.exit_code == status, done.output
    return json.loads(done.stdout) if status < 2 else {}, done.stderr


def test_a_run_is_adapted_to_clips_and_says_what_that_was_worth(trained: Trained) -> None:
    found, said = personal(trained, trained.root / "own", "--strength", "0.1")
    assert found["n"] == 8
    assert found["top1"] == 1  # a signer whose clips of a sign are all alike
    assert found["gain"]["top1"] == pytest.approx(1 - found["before"])
    assert f"8 clips, each left out: top-1 {found['before']:.1%} -> 100.0%, " in said
    record = json.loads((Path(found["run"]) / "run.json").read_bytes())
    base = json.loads((Path(trained.run) / "run.json").read_bytes())
    assert record["personal"]["run"] == base["id"] != record["id"]
    assert [clip["label"] for clip in record["personal"]["clips"]].count("class1") == 4
    before, after = (load_file(Path(folder) / "weights.safetensors") for folder in (trained.run, found["run"]))
    assert {name for name, values in before.items() if not np.array_equal(values, after[name])} == {"head.weight", "head.bias"}
    done = run(trained.home, "predict", found["run"], trained.root / "own", "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    assert all(f"/{clip['label']}/" in clip["clip"] for clip in json.loads(done.stdout))
    again, _ = personal(trained, trained.root / "own", "--strength", "0.1")
    assert again["run"] == found["run"]
    assert f"the last layer of {base['id']} adapted to 8 clips, of which each is scored by" in Path(again["report"]).read_text("utf-8")


def refused(trained: Trained, place: Path) -> str:
    _, said = personal(trained, place, status=2)
    return said.splitlines()[-1]


def test_a_label_that_the_run_did_not_learn_is_one_line(trained: Trained, tmp_path: Path) -> None:
    write_frames(tmp_path / "hello" / "clip", 1)
    assert "did not learn 'hello'; clips are to lie in folders called by their labels: class0, class1" in refused(trained, tmp_path)


def test_one_clip_is_too_few(trained: Trained, tmp_path: Path) -> None:
    write_frames(tmp_path / "class0" / "clip", 1)
    assert "1 clips could be read, and each is scored by what the others teach: give two or more" in refused(trained, tmp_path)


def test_a_clip_that_fails_is_named_and_the_others_teach(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.root / "own", tmp_path / "own")
    broken = tmp_path / "own" / "class0" / "clip 0" / "3.npy"
    broken.write_bytes(b"no array")
    found, said = personal(trained, tmp_path / "own", status=1)
    assert found["n"] == 7
    assert list(found["failed"]) == [str(broken.parent)]
    assert f"{broken.parent}  failed: " in said


def test_a_run_of_several_networks_is_refused(trained: Trained) -> None:
    fold = run(
        trained.home,
        "train",
        "tiny",
        "lstm_late",
        "--set",
        "stages=mp_data",
        "--set",
        "hidden=2",
        "--set",
        "epochs=1",
        "--folds",
        "2",
        "--json",
    )
    assert fold.exit_code == 0, fold.output
    done = run(trained.home, "personalise", json.loads(fold.stdout)["run"], trained.root / "own")
    assert done.exit_code == 2
    assert "is a run of several; name one of theirs" in done.stderr
