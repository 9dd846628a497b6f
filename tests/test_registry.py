"""The word you type is the file that is opened, and what is wrong with it is one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.errors import UserError

STAGE = '''from typing import Literal

from pipeline.types import Extractor


class Made(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 1)` float32."""

    source: str = "rgb"
    size: tuple[int, int] | None = None
    layers: list[str] = ["a"]
    weights: str | None = "random:0"
    fast: bool = False
    rate: float = 25.0
    axes: Literal[2, 3] = 3


stage: type[Extractor] = Made
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of stages of its own."""
    package = tmp_path / "made_stages"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "made.py").write_text(STAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "PACKAGES", {**registry.PACKAGES, "stage": "made_stages"})
    yield package
    for name in [name for name in sys.modules if name.startswith("made_stages")]:
        del sys.modules[name]


def test_a_new_file_is_a_new_name(folder: Path) -> None:
    assert registry.names("stage") == ["made"]
    (folder / "another.py").write_text(STAGE)
    assert registry.names("stage") == ["another", "made"]
    assert registry.find("stage", "another").__module__ == "made_stages.another"


def test_a_file_that_registers_nothing_is_one_line(folder: Path) -> None:
    (folder / "empty.py").write_text("X = 1\n")
    with pytest.raises(UserError, match=r"empty\.py registers no stage; its last line is to be `stage = \.\.\.`"):
        registry.find("stage", "empty")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"no stage called 'mad'; did you mean 'made'\? Known: made\. A new one .* file: made_stages/mad\.py"
    ):
        registry.find("stage", "mad")
    with pytest.raises(
        UserError, match=r"no store called 'parquet'\. Known: .*zarr\. A new one is one file: pipeline/cache/stores/parquet\.py"
    ):
        registry.find("store", "parquet")


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("size", "3,4", (3, 4)),
        ("axes", "2", 2),
        ("size", "none", None),
        ("layers", "x, y,z", ["x", "y", "z"]),
        ("weights", "None", None),
        ("weights", "a,b", "a,b"),
        ("source", "none", "none"),
        ("fast", "true", True),
        ("rate", "12.5", 12.5),
    ],
)
def test_text_is_read_as_the_fields_type(field: str, text: str, value: object) -> None:
    assert getattr(registry.create("stage", "made", {field: text}), field) == value


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sise": "3"}, r"stage 'made' has no field 'sise'; did you mean 'size'\? Fields: source, size, layers, weights, fast, rate"),
        ({"rate": "fast"}, r"stage 'made': rate='fast': Input should be a valid number"),
        ({"size": "3"}, r"stage 'made': size.*Field required"),
        ({"fast": "perhaps"}, r"stage 'made': fast='perhaps': Input should be a valid boolean"),
    ],
)
def test_a_wrong_field_or_value_is_one_line(fields: dict[str, str], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as told:
        registry.create("stage", "made", fields)
    assert "\n" not in str(told.value)
