"""Real research data for tests, where a machine has it: `$SIGNCACHE_SHARED`, else `shared/data` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def shared(name: str) -> Path:
    """A file or folder of it; skips the test where it is not there."""
    root = Path(os.environ.get("SIGNCACHE_SHARED") or CHECKOUT.parent / "shared" / "data")
    if not (root / name).exists():
        pytest.skip(f"no {root / name}: real data, set SIGNCACHE_SHARED to the folder that holds it")
    return root / name
