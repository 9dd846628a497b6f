"""The files of `.docker`: linted, and about what lies in the checkout. Nothing is built."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import yaml

from pipeline.cli import main
from pipeline.serving.app import Door, Metrics

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / ".docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
    return [word.removeprefix("./") for line in lines for word in line.split()[:-1]]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_hadolint_would_find_a_root_without_a_pinned_package(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN apt-get install curl\n")
    linter = Path(sys.executable).with_name("hadolint")
    assert subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode == 1


def test_what_is_copied_lies_in_the_checkout_and_is_not_ignored() -> None:
    kept = [line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(copied()) == set(kept)
    assert all((ROOT / name).exists() for name in copied())


def test_all_packages_are_copied_and_so_is_what_the_installation_reads() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'"(\w+)\*"', project.partition("[tool.setuptools.packages.find]")[2].partition("\n[")[0])
    assert {*packages, "pyproject.toml", "README.md", "LICENSE", ".requirements.txt"} == set(copied())


def test_a_cpu_image_leaves_out_cuda_and_nothing_else() -> None:
    (pattern,) = re.findall(r"grep -Ev '([^']+)'", DOCKERFILE)
    names = [re.split("[=<>; \\[]", line)[0] for line in (ROOT / ".requirements.txt").read_text().splitlines() if re.match(r"\w", line)]
    left_out = {name for name in names if re.match(pattern, name)}
    assert {"torch", "torchvision", "numpy", "mediapipe"} <= set(names) - left_out
    assert left_out
    assert all(fnmatch(name, "nvidia-*") or fnmatch(name, "cuda-*") or name == "triton" for name in left_out)


COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
BUILT = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
MONITORING = DOCKER / "monitoring"


def test_compose_builds_both_images_from_that_file_with_what_is_the_users_in_volumes() -> None:
    assert {name: service["build"]["args"]["DEVICE"] for name, service in BUILT.items()} == {"cpu": "cpu", "cuda": "cuda", "serve": "cpu"}
    for service in BUILT.values():
        context = (DOCKER / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
    for name in ("cpu", "cuda"):
        volumes = dict(volume.split(":") for volume in BUILT[name]["volumes"])
        assert set(volumes.values()) == {f"/signcache/{folder}" for folder in ("data", "cache", "manifests")}
        assert set(volumes) - {"../data"} == set(COMPOSE["volumes"])
    (device,) = BUILT["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in BUILT["cpu"]


def test_what_is_served_is_a_line_that_the_code_takes_and_is_shown_to_this_machine_only() -> None:
    name, *words = BUILT["serve"]["command"]
    with click.Context(main) as above, main.commands[name].make_context(name, words, parent=above) as context:
        assert f":{context.params['port']}/ready" in BUILT["serve"]["healthcheck"]["test"][-1]
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_files_that_containers_read_are_there_and_prometheus_and_grafana_find_one_another() -> None:
    mounted = [v.split(":")[0] for service in COMPOSE["services"].values() for v in service.get("volumes", ()) if v.startswith("./")]
    assert {Path(file).name for file in mounted} == {file.name for file in MONITORING.iterdir()}
    scraped = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    ((target,),) = (each["targets"] for job in scraped["scrape_configs"] for each in job["static_configs"])
    assert target == "serve:" + BUILT["serve"]["command"][-1]
    assert scraped["rule_files"] == ["alerts.yaml"]
    (source,) = yaml.safe_load((MONITORING / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    panels = json.loads((MONITORING / "signcache.json").read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}


def test_dashboard_and_alerts_ask_for_metrics_that_the_server_has() -> None:
    counts, preparing = SimpleNamespace(batches=0, clips=0, largest=0), SimpleNamespace(decoded=0, lost=0)
    labeller: Any = SimpleNamespace(counts=counts, preparing=preparing)
    metrics = Metrics(labeller, Door(1))
    metrics.requests.labels("/predict", 200).inc()
    metrics.seconds.labels("/predict").observe(1)
    known = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    alerts = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((MONITORING / "signcache.json").read_text())["panels"]
    asked = [rule["expr"] for rule in alerts] + [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for expression in asked for name in re.findall(r"signcache_\w+", expression)}
    assert named <= known
    assert {name.removesuffix("_bucket") for name in named} >= {
        "signcache_requests_total",
        "signcache_request_seconds",
        "signcache_under_way",
    }


def test_the_lines_of_its_readme_are_ones_that_the_code_takes() -> None:
    lines = [shlex.split(line, comments=True) for line in (DOCKER / "README.md").read_text().splitlines() if line.startswith("docker ")]
    runs = [words[words.index("--rm") + 2 :] for words in lines if "run" in words]
    assert len(runs) == 3
    for name, *words in runs:
        with click.Context(main) as above, main.commands[name].make_context(name, words, parent=above):
            pass
