"""A search for settings: Optuna over the space that a recipe declares, judged on validation, kept in SQLite; test is never read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.special import log_softmax
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from pipeline import registry
from pipeline.atomic import digest_of
from pipeline.cache.locking import alone
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.presets import TUNED, preset_of, stand_in_line, training_settings
from pipeline.errors import Diverged, UserError
from pipeline.learning.epochs import Epoch
from pipeline.learning.recipe import Between, Choice, Predictor, Recipe, Space
from pipeline.machine import chosen_device
from pipeline.runs._trainer import RunTrainer, record_of
from pipeline.runs.reading import Reading, read_for
from pipeline.runs.training import configured
from pipeline.runs.trials import Found, Tried, words

STARTUP_TRIALS = 5
"""Trials before any is pruned; later ones are once they are worse than the median of the others at the same epoch."""
WARMUP_SHARE = 0.25
"""Of a training's epochs, in which it is not pruned."""
DIGITS = 3
COMPLETE, PRUNED, FAIL = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL


@dataclass(frozen=True)
class Search:
    """What is searched: a recipe whose fields of `space` vary, on the clips of train and validation."""

    home: Home
    reading: Reading
    model: str
    recipe: Recipe
    space: Space
    seed: int
    device: str
    missing: Mapping[str, str]
    training: Mapping[str, Mapping[str, Any]]
    """The settings that the corpus has for models, without `learn`."""
    notes: Sequence[str] = ()
    """What is to be known of what is read."""

    @cached_property
    def name(self) -> str:
        """Changes with anything that a trial's figures depend on, and with the space."""
        space = [[field, type(where).__name__, *_bounds(where)] for field, where in self.space.items()]
        return digest_of([record_of(self.home, self.reading, self.model, self.recipe, self.seed)["id"], space])

    def varied(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with these settings."""
        recipe: Recipe = registry.create("model", self.model, self.recipe.varied(settings))
        return recipe

    def said(self, fixed: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, Any]:
        """What a training is to be told: what was fixed, and what was found, as `--set` takes them."""
        return {**{key: value for key, value in fixed.items() if value}, **self.recipe.said(found, self.training)}

    def trained(self, settings: Mapping[str, Any], hears: Callable[[Epoch], None]) -> Predictor:
        """What a training with these settings makes; members of an ensemble are runs, trained once and found by the next trial."""
        train, val = self.reading.fold("train", self.seed), self.reading.fold("val", self.seed)
        command = f"signcache tune {self.reading.table.name} {self.model}"
        train.trainer = RunTrainer(self.home, self.reading, self.device, command, self.missing)
        train.hears = hears
        return self.varied(settings).fit(train, val, self.device)

    def judged(self, predictor: Predictor) -> tuple[float, float]:
        """Fraction right and mean cross entropy on validation."""
        val = self.reading.rows(self.reading.of("val"), self.reading.table.classes)
        logits = val.each(predictor.logits)
        shares = log_softmax(logits.astype(np.float64), 1)
        return float((logits.argmax(1) == val.labels).mean()), float(-shares[np.arange(len(val)), val.labels].mean())


def search_for(
    home: Home,
    table: Manifest,
    model: str,
    settings: Mapping[str, str],
    *,
    seed: int = 0,
    device: str = "auto",
    stale: str = "refuse",
    allow_missing: int = 0,
) -> Search:
    """The search of a model's space but for the fields that `settings` fix, on the labelled clips of train and validation.

    What the corpus says of `learn` does not count here: a search needs validation clips that no trial trains on.
    """
    preset = preset_of(settings)[0]
    known = training_settings(table, model, preset)
    training = {name: {key: value for key, value in said.items() if key != "learn"} for name, said in known.items()}
    recipe = configured(table, model, settings, training=training)
    if recipe.learns_validation:
        raise UserError("learn=all trains on the validation clips, which judge the trials; leave it out here, and set it in the training")
    space, whole = recipe.searched(settings), recipe.searched({})
    if not whole:
        raise UserError(f"model {model!r} declares no space to search; its file is to say one, as models/transformer.py does")
    if not space:
        raise UserError(f"model {model!r}: --set fixes all that could be searched ({', '.join(whole)}); leave one out")
    clips = [sample for sample in table.samples if sample.label is not None and sample.split in ("train", "val")]
    reading, missing = read_for(home, table, recipe, clips, stale=stale, allow_missing=allow_missing)
    reading.check()
    notes = stand_in_line(table, model, recipe.stages) if preset == TUNED else []
    return Search(home, reading, model, recipe, space, seed, chosen_device(device), missing, training, notes)


def tune(search: Search, trials: int, *, timeout: float | None = None, say: Callable[[str], None] = print) -> Found:
    """Search until `trials` have ended in all, or until none is to start after `timeout` seconds; goes on where it was killed.

    The first trial has the settings as they are, where they lie in the space. A trial that is pruned or diverges counts.
    """
    began = time.monotonic()
    for line in (*search.notes, *search.reading.crossings(), *search.reading.parted(search.recipe), *search.reading.leak_lines("val")):
        say(line)
    with _study(search) as (study, place):
        found = Found(search.name, place, _ended(study))
        say(f"search {found.study}: {', '.join(search.space)}; {len(found.trials)} of {trials} trials done; in {place}")
        while len(found.trials) < trials and (timeout is None or time.monotonic() - began < timeout):
            _try(search, study, len(found.trials), place.with_suffix(".log"))
            found = Found(search.name, place, _ended(study))
            best = f"; best: trial {found.best.number}, {found.best.top1:.1%}" if found.best else ""
            say(found.trials[-1].line(trials) + best)
    return found


@contextmanager
def _study(search: Search) -> Iterator[tuple[optuna.Study, Path]]:
    """The study in its file, where one search is at work at a time; trials that a kill left running have failed."""
    place = search.home.cache / "tuning" / search.reading.table.name / f"{search.model}.db"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    epochs = getattr(search.recipe, "epochs", 0)
    pruner = optuna.pruners.MedianPruner(STARTUP_TRIALS, int(epochs * WARMUP_SHARE))
    with alone(place.with_suffix(".lock"), f"a search in {place} is running already; wait for it"), _database_errors(place):
        storage = optuna.storages.RDBStorage(URL.create("sqlite", database=str(place)).render_as_string())
        try:
            study = optuna.create_study(storage=storage, study_name=search.name, direction="maximize", pruner=pruner, load_if_exists=True)
            for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
                study.tell(trial.number, state=FAIL)
            yield study, place
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _database_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{place} cannot be used ({reason}); delete it to start the search anew") from error


def _ended(study: optuna.Study) -> tuple[Tried, ...]:
    """The trials that count, in the order in which they were made."""
    trials = study.get_trials(deepcopy=False, states=[COMPLETE, PRUNED])
    said = [trial.user_attrs for trial in trials]
    return tuple(
        Tried(number, row["settings"], row.get("top1"), row.get("loss"), row.get("ended", "")) for number, row in enumerate(said, 1)
    )


def _try(search: Search, study: optuna.Study, done: int, log: Path) -> None:
    """One more trial, drawn from the seed and the trials before; what its training says goes to a log."""
    if not done and not study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.WAITING]):
        study.enqueue_trial(_present(search))
    drawn = np.random.SeedSequence([search.seed & 0xFFFF_FFFF_FFFF_FFFF, done]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(drawn[0]))
    trial = study.ask()
    settings = {field: _suggested(trial, field, where) for field, where in search.space.items()}
    trial.set_user_attr("settings", settings)
    try:
        with open(log, "a", encoding="utf-8") as file, redirect_stderr(file):
            print(f"{search.name} trial {done + 1}: {' '.join(words(settings))}", file=file, flush=True)
            top1, loss = search.judged(search.trained(settings, _listener(search, trial)))
    except (optuna.TrialPruned, Diverged) as end:
        trial.set_user_attr("ended", str(end) if isinstance(end, optuna.TrialPruned) else "diverged")
        study.tell(trial, state=PRUNED)
    except BaseException:
        study.tell(trial, state=FAIL)
        raise
    else:
        trial.set_user_attr("top1", top1)
        trial.set_user_attr("loss", loss)
        study.tell(trial, score(top1, loss, len(search.reading.of("val"))))


def _listener(search: Search, trial: optuna.Trial) -> Callable[[Epoch], None]:
    """Reports every epoch and ends a training that falls behind."""
    clips = len(search.reading.of("val"))

    def hear(figures: Epoch) -> None:
        trial.report(score(figures.val_top1, figures.val_loss, clips), figures.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {figures.epoch}, top-1 {figures.val_top1:.1%}")

    return hear


def score(top1: float, loss: float, clips: int) -> float:
    """One number by which more clips right is better, and of equals the lower loss: `(right - loss / (1 + loss)) / clips`."""
    return top1 - (loss / (1 + loss) if loss < float("inf") else 1.0) / clips


def _present(search: Search) -> dict[str, Any]:
    """The settings as they are, of the fields whose value lies in the space."""
    present = {field: search.recipe.setting(field) for field in search.space}
    return {field: value for field, value in present.items() if _holds(search.space[field], value)}


def _holds(where: Choice | Between, value: Any) -> bool:
    return value in where.values if isinstance(where, Choice) else where.low <= value <= where.high


def _bounds(where: Choice | Between) -> list[Any]:
    return list(where.values) if isinstance(where, Choice) else [where.low, where.high, where.log]


def _suggested(trial: optuna.Trial, field: str, where: Choice | Between) -> Any:
    """A value of the space; numbers have three digits, so that the line that prints them says them whole."""
    if isinstance(where, Choice):
        return trial.suggest_categorical(field, where.values)
    return float(f"{trial.suggest_float(field, where.low, where.high, log=where.log):.{DIGITS}g}")
