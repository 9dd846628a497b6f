"""Whatever happens to a corpus, its stages and its cache, in whatever order: what is published is what plain Python makes of the clips.

Hypothesis draws histories of events, and each step is compared with a model. `pytest -n 0 tests/test_histories.py --examples N
--steps N --seed N` tries more of them, longer ones, and others; with `--shrink` a failure is shown in the fewest steps that were found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests import toys
from tests.history import History
from tests.toys import Code
from tests.world import Workshop

CLIPS = tuple(f"{label}/{name}" for label in "ab" for name in ("k1", "k2", "k3", "k4", "k5"))
clips, contents, numbers = st.sampled_from(CLIPS), st.sampled_from(toys.CONTENTS), st.integers(0, 59)
stages, codes = st.sampled_from([*toys.STAGES]), st.builds(Code, st.integers(0, 1), st.integers(1, 2), st.integers(0, 1))
chosen = st.sampled_from([tuple(toys.STAGES), ("steps", "sums"), ("steps",), ("sums",), ("echo",), ()])
at, whole = st.integers(0, 60), st.none()
"""How many changes a command makes to the disk before it is killed, or that it is not."""
EVENTS: Sequence[tuple[int, str, tuple[st.SearchStrategy[Any], ...]]] = (
    (1, "touch", (numbers,)),
    (4, "put", (clips, contents)),
    (2, "change_secretly", (numbers, numbers)),
    (3, "swap", (numbers, numbers)),
    (2, "rename", (numbers, clips)),
    (2, "remove", (numbers,)),
    (3, "bring_back", (numbers, st.booleans())),
    (2, "miss_a_class", (st.sampled_from("ab"), st.booleans())),
    (1, "list_clips", ()),
    (1, "extract_without_the_disk", ()),
    (4, "edit", (stages, codes)),
    (6, "extract", (chosen, st.sampled_from([(), ("--store", "hdf5"), ("--retry-failed",)]))),
    (2, "extract", (chosen, st.tuples(st.just("--limit"), st.integers(1, 3)))),
    (1, "extract_one", (chosen, numbers)),
    (3, "extract", (chosen, st.just(("--rehash",)))),
    (2, "extract", (st.sampled_from([("steps",), ("sums",)]), st.tuples(st.just("--set"), st.sampled_from(["gain=", "gain=2", "gain=3"])))),
    (4, "kill_an_extraction", (chosen, at)),
    (2, "edit_meanwhile", (chosen, stages, at, codes, st.integers(1, 30) | st.none())),
    (2, "put_meanwhile", (chosen, numbers, contents, at)),
    (1, "extract_twice", (chosen,)),
    (5, "read", (stages,)),
    (1, "verify", ()),
    (3, "compact", (stages, whole | at)),
    (2, "adopt", (stages, whole | at)),
    (2, "adopt_other_numbers", (stages,)),
    (1, "collect_garbage", (whole | at,)),
    (1, "collect_garbage_beside_a_broken_stage", (stages,)),
    (1, "drop", (stages, whole | at)),
    (3, "damage", (stages, numbers)),
)
"""How often each is drawn, and with what."""
events = st.one_of(*(st.tuples(st.just(name), *given) for weight, name, given in EVENTS for _ in range(weight)))


class Histories(RuleBasedStateMachine):
    """What each event does, and what must hold after it, is in `History`."""

    workshop: ClassVar[Workshop]
    folder: ClassVar[Path]
    count: ClassVar[Iterator[int]]
    failed: ClassVar[list[str]]
    """What went wrong, and after what, of every history that failed."""

    @initialize(first=st.lists(contents, min_size=5, max_size=8))
    def begin(self, first: list[int]) -> None:
        self.history = History(self.workshop, self.folder / str(next(self.count)))
        for clip, content in zip(CLIPS[::-1], first, strict=False):
            self.history.put(clip, content)
        self.history.bind()
        self.past: list[object] = [first]

    @rule(event=events)
    def happens(self, event: tuple[Any, ...]) -> None:
        self.past.append(event)
        try:
            getattr(self.history, event[0])(*event[1:])
            self.history.check()
        except Exception as error:
            self.failed.append(f"{error}\nafter {self.past}")
            raise


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A checkout with toy stages, ready to run commands."""
    workshop = Workshop(tmp_path_factory.mktemp("workshop") / "checkout")
    yield workshop
    workshop.close()


def test_whatever_happens_published_rows_are_those_of_a_fresh_extraction(
    workshop: Workshop, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    steps, examples = pytestconfig.getoption("--steps"), pytestconfig.getoption("--examples")
    failed: list[str] = []
    machine = type("Histories", (Histories,), {"workshop": workshop, "folder": tmp_path, "count": count(), "failed": failed})
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if pytestconfig.getoption("--shrink") else [])],
    )
    try:
        run_state_machine_as_test(seed(pytestconfig.getoption("--seed"))(machine), settings=how)
    except Flaky:
        pytest.fail(f"a history that does not fail every time: {failed[0]}")
