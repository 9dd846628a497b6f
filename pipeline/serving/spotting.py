"""Spotting in uploads: `signcache spot` in a process of its own, so that a video that hangs or crashes it costs that request."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from pipeline.corpus.manifest import Home
from pipeline.corpus.media import content_of
from pipeline.serving.uploads import Refused, Upload

USER_ERROR = 2
"""Exit status of a command that says what is wrong with what it was given."""
SPOTS = 2
"""At a time: one that hangs leaves room for another."""
KEPT_ANSWERS = 200
"""Of the last videos, by their content: a second look at one of them decodes nothing."""
COMMAND = "from pipeline.machine import die_with_parent; die_with_parent(); from pipeline.cli import main; main()"


class Spotter:
    """Spots in uploads, a few at a time, each in a cache of its own in a folder, which ends with it."""

    def __init__(self, home: Home, place: Path, device: str) -> None:
        self.home, self.place, self.device = home, place, device
        self.turn = asyncio.Semaphore(SPOTS)
        self.answers = OrderedDict[str, dict[str, Any]]()

    async def spot(self, upload: Upload) -> dict[str, Any]:
        """`{"glosses": [{"label", "start", "end", "probability"}]}`; raises Refused for what cannot be spotted."""
        content = await asyncio.to_thread(content_of, [upload.path])
        if content in self.answers:
            self.answers.move_to_end(content)
            return self.answers[content]
        cache = upload.path.with_suffix(".cache")
        try:
            async with self.turn:
                found = await self._found(upload, cache)
        finally:
            shutil.rmtree(cache, ignore_errors=True)
        self.answers[content] = found
        while len(self.answers) > KEPT_ANSWERS:
            self.answers.popitem(last=False)
        return found

    async def _found(self, upload: Upload, cache: Path) -> dict[str, Any]:
        where = ["--cache", str(cache), "--manifests", str(self.home.manifests)]
        words = [*where, "spot", str(self.place), str(upload.path), "--device", self.device, "--json"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", COMMAND, *words, stdout=pipe, stderr=pipe, start_new_session=True
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            raise Refused(self._reason(err, process.returncode, upload))
        return {"glosses": json.loads(out.decode().strip().splitlines()[-1])["glosses"]}

    def _reason(self, err: bytes, status: int | None, upload: Upload) -> str:
        """What a spotting that ended so said last, where it is one that ends by itself with a sentence."""
        said = (err.decode(errors="replace").strip().splitlines() or [""])[-1]
        if status != USER_ERROR or not said:
            return f"the spotting of it ended with status {status}"
        return said.removeprefix("signcache: ").replace(str(upload.path), "the clip").replace(str(self.place), "the model")
