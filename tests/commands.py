"""Commands on a cache in a folder, started inside the test's own process: a moment instead of a second."""

from __future__ import annotations

from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.corpus.manifest import Home


def run(home: Home, *arguments: object) -> Result:
    """The command's result; whatever is no exit status is raised."""
    words = ["--cache", str(home.cache), "--manifests", str(home.manifests), *map(str, arguments)]
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def said(home: Home, *arguments: object, status: int = 0) -> str:
    """What a command that ends with this status prints on both streams."""
    result = run(home, *arguments)
    assert result.exit_code == status, result.output
    return result.output
