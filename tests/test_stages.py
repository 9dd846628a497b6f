"""What every stage keeps to: each file of `stages/` is tested without being named here; and what is asked of the files themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.errors import UserError
from pipeline.testing import StageContract
from pipeline.testing.stages import created
from pipeline.types import Extractor, Frame
from stages.flow import Flow

STAGES = registry.names("stage")
CHECKOUT = Path(__file__).resolve().parents[1]
LONGEST = 250


class TestStages(StageContract):
    names = STAGES

    def frames(self, stage: Extractor) -> list[Frame]:
        """Flow is given one image twice: of noise, TV-L1 takes seconds a pair."""
        frames = super().frames(stage)
        return frames[:1] * 2 if isinstance(stage, Flow) else frames


def source_of(name: str) -> str:
    return (CHECKOUT / "stages" / f"{name}.py").read_text()


@pytest.mark.parametrize("name", STAGES)
def test_the_last_line_registers_an_extractor(name: str) -> None:
    last = source_of(name).strip().splitlines()[-1]
    assert re.fullmatch(r"stage: type\[Extractor\] = \w+", last)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_file_keeps_to_the_house_size(name: str) -> None:
    assert len(source_of(name).splitlines()) <= LONGEST


def test_a_misspelt_stage_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(UserError, match=r"no stage called 'resnt50'; did you mean 'resnet50'\? Known: .*one file: stages/resnt50\.py"):
        registry.create("stage", "resnt50")


def test_a_value_of_the_wrong_type_is_one_line() -> None:
    with pytest.raises(UserError, match=r"stage 'resnet50': max_frames='many': Input should be a valid integer"):
        created("resnet50", max_frames="many")
    with pytest.raises(UserError, match=r"stage 'resnet50': max_frames='0': Input should be greater than 0"):
        created("resnet50", max_frames="0")


def test_text_of_a_command_line_is_read_as_the_fields_type() -> None:
    assert created("resnet50", max_frames="60", resize="96, 128") == created("resnet50", max_frames=60, resize=(96, 128))
