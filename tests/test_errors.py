"""What users and clips can do wrong travels between processes as it was raised."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import models
import pipeline
import stages
from pipeline.errors import NewerFormat

VALUES = {"path": Path("cache/lis.json"), "found": 7, "known": 1, "length": 40}
"""What the arguments of an error may be called."""


def errors() -> Iterator[type[BaseException]]:
    """Every kind of error that this project defines."""
    for package in (pipeline, stages, models):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name != "pipeline.__main__":
                module = importlib.import_module(found.name)
                yield from (kind for _, kind in inspect.getmembers(module, _is_error) if kind.__module__ == found.name)


def sent(error: BaseException) -> BaseException:
    """The error as another process raised it."""
    again: BaseException = pickle.loads(pickle.dumps(error))  # noqa: S301
    return again


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


@pytest.mark.parametrize("kind", dict.fromkeys(errors()), ids=lambda kind: kind.__name__)
def test_every_error_comes_out_of_a_pickle_as_it_went_in(kind: type[BaseException]) -> None:
    named = list(inspect.signature(kind).parameters) if inspect.isfunction(kind.__init__) else []
    error = kind(*(VALUES[name] for name in named)) if named else kind("what is wrong")
    again = sent(error)
    assert (type(again), str(again), again.args, vars(again)) == (kind, str(error), error.args, vars(error))


def test_a_newer_format_says_what_to_do() -> None:
    text = "cache/lis.json has format 7, this signcache reads up to 1: install a newer signcache"
    assert str(sent(NewerFormat(Path("cache/lis.json"), 7, 1))) == text
