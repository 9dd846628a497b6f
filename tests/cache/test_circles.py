"""A stage that would derive from itself is refused in one line, however long the way round is."""

from __future__ import annotations

import pytest

from tests.checkout import Checkout


@pytest.mark.parametrize(
    ("arguments", "circle"),
    [
        (("colour", "--set", "source=stage:colour"), "'colour' <- 'colour'"),
        (("colour", "--as", "other", "--set", "source=stage:other"), "'other' <- 'other'"),
        (("colour", "--set", "source=stage:brightness"), "'colour' <- 'brightness' <- 'colour'"),
        (("colour", "brightness", "--set", "colour.source=stage:brightness"), "'colour' <- 'brightness' <- 'colour'"),
        (
            ("colour", "palette", "--set", "colour.source=stage:palette", "--set", "palette.source=stage:colour"),
            "'palette' <- 'colour' <- 'palette'",
        ),
    ],
    ids=["itself", "a second name", "a derived one", "both asked", "both turned"],
)
def test_a_stage_that_derives_from_itself_is_refused(checkout: Checkout, arguments: tuple[str, ...], circle: str) -> None:
    for command in ("plan", "extract"):
        done = checkout.run(command, "tiny", *arguments)
        assert done.returncode == 2, done.stdout
        name = circle.rpartition("<- ")[2]
        assert done.stderr == (
            f"signcache: stage {name} would derive from itself ({circle}); give one of them another source, as in --set source=rgb\n"
        )


def test_a_circle_through_what_is_published_is_refused(checkout: Checkout) -> None:
    checkout.ok("extract", "tiny", "colour", "--as", "other")
    checkout.ok("extract", "tiny", "brightness", "--set", "source=stage:other")
    done = checkout.run("plan", "tiny", "other", "--set", "source=stage:brightness")
    assert done.returncode == 2
    assert "stage 'other' would derive from itself ('other' <- 'brightness' <- 'other')" in done.stderr


def test_a_circle_of_defaults_is_refused(checkout: Checkout) -> None:
    checkout.edit("stages/colour.py", 'source: str = "rgb"', 'source: str = "stage:brightness"')
    done = checkout.run("plan", "tiny", "brightness")
    assert done.returncode == 2
    assert "stage 'brightness' would derive from itself ('brightness' <- 'colour' <- 'brightness')" in done.stderr
