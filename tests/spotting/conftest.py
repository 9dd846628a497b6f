"""What the tests of spotting start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.spotting.signs import Signs, made, toy_stages


@pytest.fixture(scope="package")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signs]:
    """Runs on toy signs: of rows a frame, of a stage that derives from these, and of rows of several frames."""
    root = tmp_path_factory.mktemp("signs")
    with toy_stages(root):
        yield made(root, {"colour": "colour", "derived": "colour,centred", "streamed": "tint,change"})
