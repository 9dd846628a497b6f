"""What every test starts from."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Torch computes with one thread, whatever a test before set: another number gives other last bits."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
