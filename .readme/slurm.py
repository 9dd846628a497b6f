"""Submits Dask workers to SLURM and keeps their scheduler until Ctrl-C; needs `pip install dask-jobqueue`.

python .readme/slurm.py /shared/scheduler.json
signcache extract lis resnet50 --scheduler /shared/scheduler.json     # in another shell, as often as you like
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

JOBS = 10
JOB = {
    "cores": 8,
    "processes": 1,  # of a job: one a GPU
    "memory": "32GB",
    "walltime": "01:00:00",
    "job_extra_directives": [],  # e.g. "--partition=gpu", "--gres=gpu:1"
    "worker_extra_args": ["--lifetime", "55m", "--lifetime-stagger", "4m", "--memory-limit", "0"],  # ends below the walltime
    "local_directory": "/tmp",  # noqa: S108  # of the node: prepared items wait there
}


def main(file: Path) -> None:
    """The scheduler's file is there as long as the scheduler is."""
    from dask_jobqueue import SLURMCluster

    checkout = Path(__file__).resolve().parents[1]
    prologue = ["export DASK_DISTRIBUTED__WORKER__DAEMON=False", f"export PYTHONPATH={checkout}", f"cd {checkout}"]
    with SLURMCluster(**JOB, job_script_prologue=prologue) as cluster:
        cluster.scale(jobs=JOBS)
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps({"address": cluster.scheduler_address}))
        os.replace(temporary, file)
        try:
            print(f"{JOBS} jobs submitted; scheduler {cluster.scheduler_address} in {file}, dashboard {cluster.dashboard_link}", flush=True)
            signal.sigwait([signal.SIGINT, signal.SIGTERM])
        finally:
            file.unlink()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    main(Path(sys.argv[1]))
