"""Spotting in uploads: `signcache spot` in a process of its own, so that a video that hangs or crashes it costs that request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpus.manifest import Home
from pipeline.serving.uploads import Refused, Upload


@dataclass
class Spotter:
    """Spots one upload at a time, within the cache of the server."""

    home: Home
    place: Path
    device: str

    def __post_init__(self) -> None:
        self.turn = asyncio.Lock()

    async def spot(self, upload: Upload) -> dict[str, Any]:
        """`{"glosses": [{"label", "start", "end", "probability"}]}`; raises Refused for what cannot be spotted."""
        words = ["--cache", str(self.home.cache), "--manifests", str(self.home.manifests), "spot", str(self.place), str(upload.path)]
        pipe = asyncio.subprocess.PIPE
        async with self.turn:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pipeline",
                *words,
                "--device",
                self.device,
                "--json",
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            )
            try:
                out, err = await process.communicate()
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        if process.returncode != 0:
            said = (err.decode(errors="replace").strip().splitlines() or ["it ended without a word"])[-1]
            raise Refused(said.removeprefix("signcache: ").replace(str(upload.path), "the clip").replace(str(self.place), "the model"))
        found = json.loads(out.decode().strip().splitlines()[-1])
        return {"glosses": found["glosses"]}
