"""A training as an MLflow run: where MLFLOW_TRACKING_URI says, or in the cache with `train --log mlflow`."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.learning.epochs import FIGURES
from pipeline.runs import run_folder
from pipeline.runs.run_folder import Run

ADDRESS, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
TAG = "signcache.run"
ARTIFACTS = (run_folder.RECORD, run_folder.RESULT, FIGURES)
LONGEST = 500
"""Characters of a parameter that every MLflow store takes."""


def is_asked() -> bool:
    return bool(os.environ.get(ADDRESS))


def ask(home: Home) -> None:
    """From now on trainings are MLflow runs: of the store that the environment names, else of one beside the run folders."""
    os.environ.setdefault(ADDRESS, f"sqlite:///{(home.cache / 'runs' / 'mlflow.db').absolute()}")
    (home.cache / "runs").mkdir(parents=True, exist_ok=True)


class Tracked:
    """The MLflow run of a run folder, known by a tag: a resumed training finds it again, and no step is logged twice."""

    def __init__(self, folder: Path) -> None:
        whole = folder if (folder / run_folder.RECORD).exists() else folder.parent  # that of a part lies in the whole's
        self.run = run_folder.read(whole)
        self.prefix = "" if whole == folder else f"{folder.name}/"
        with _reached() as client:
            self.client: Any = client
            self.id = self._found() or self._created()
            steps = [metric.step for metric in client.get_metric_history(self.id, f"{self.prefix}loss")]
        self.last = max(steps, default=0)

    def add(self, epoch: int, figures: Mapping[str, float]) -> None:
        """The figures of an epoch, unless they are there."""
        if epoch > self.last:
            self._log({f"{self.prefix}{name}": value for name, value in figures.items()}, epoch)

    def finish(self, scores: Mapping[str, float], page: Path | None) -> None:
        """Scores and files, once: from now on the run is finished there too; and its report page, where there is one."""
        is_new = self.client.get_run(self.id).info.status != "FINISHED"
        if is_new:
            self._log(scores, 0)
        paths = [self.run.folder / name for name in ARTIFACTS] if is_new else []
        with _reached():
            for path in [path for path in paths if path.exists()] + ([page] if page else []):
                self.client.log_artifact(self.id, str(path))
            self.client.set_terminated(self.id)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        with _reached():
            now = int(time.time() * 1000)
            self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def _found(self) -> str | None:
        found = self.client.search_runs([self._experiment()], f"tags.`{TAG}` = '{self.run.record['id']}'")
        return str(found[0].info.run_id) if found else None

    def _created(self) -> str:
        from mlflow.entities import Param

        tags = {TAG: self.run.record["id"], "signcache.folder": str(self.run.folder)}
        name = f"{self.run.model}, seed {self.run.record['seed']}"
        made = self.client.create_run(self._experiment(), tags=tags, run_name=name)
        self.client.log_batch(made.info.run_id, params=[Param(key, str(value)[:LONGEST]) for key, value in plain(self.run).items()])
        return str(made.info.run_id)

    def _experiment(self) -> str:
        """The one that the environment names, else that of the corpus."""
        name = os.environ.get(EXPERIMENT) or f"signcache {self.run.dataset}"
        known = self.client.get_experiment_by_name(name)
        if known:
            return str(known.experiment_id)
        beside = self.run.folder.parents[2] / "mlflow"  # cache/runs/mlflow, where the store is the cache's own
        place = beside.as_uri() if os.environ[ADDRESS].endswith(str(beside.with_suffix(".db"))) else None
        return str(self.client.create_experiment(name, artifact_location=place))


@contextmanager
def _reached() -> Iterator[Any]:
    """A client of the store; raises UserError where MLflow is not installed, or the store does not answer."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(f"{ADDRESS} asks for MLflow, which is not installed ({error}); run: pip install 'signcache[mlflow]'") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield MlflowClient()
    except MlflowException as error:
        first = str(error).splitlines()[0]
        raise UserError(f"MLflow at {os.environ[ADDRESS]} failed ({first}); mend it or unset {ADDRESS}, and run the same line") from error


def plain(run: Run) -> dict[str, Any]:
    """What made a run, a value a name: settings that are no plain values as JSON."""
    known: Mapping[str, Any] = {"dataset": run.dataset, "model": run.model, "seed": run.record["seed"], **run.record["settings"]}
    return {key: value if isinstance(value, (bool, int, float, str)) else json.dumps(value) for key, value in known.items()}
