"""The rivals' environment: `.venv-bench` holds what only they need and sees this environment's packages beside it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.bench.contest import ROOT

FOLDER = ROOT / ".venv-bench"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SEEN = "beside.pth"


def python(folder: Path = FOLDER) -> tuple[str, str]:
    """The Python of the environment, made where it is missing or other than asked; or an empty string and why there is none."""
    here = sysconfig.get_path("purelib")
    wanted = f"{sys.version}\n{here}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    stamp, executable = folder / "installed.txt", folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return str(executable), ""
    try:
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        packages = _run(str(executable), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        Path(packages, SEEN).write_text(here + "\n", encoding="utf-8")  # torch alone would be 7 GB once more
        _run(str(executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(REQUIREMENTS))
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        return "", f"cannot be installed: {said[-1]}"
    stamp.write_text(wanted, encoding="utf-8")
    return str(executable), ""


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
