"""Every recipe of the folder: it is one file, says where it comes from, learns, keeps, and never reads padding."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import registry
from pipeline.testing import ModelContract

MODELS = registry.names("model")


class TestModels(ModelContract):
    names = MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_one_file_that_says_shapes_source_and_figure(name: str) -> None:
    found = registry.find("model", name)
    path = Path("models") / f"{name}.py"
    source = (Path(__file__).parents[1] / path).read_text()
    assert source.rstrip().splitlines()[-1] == f"model: type[Recipe] = {found.__name__}"
    documentation = source.split('"""')[1] + str(found.__doc__)
    assert "`(B, " in documentation, "say what comes out of a batch with its shape"
    assert "/" in documentation, "say which repository or paper it is from"
    assert "%" in documentation, "say the published figure, or that there is none"
