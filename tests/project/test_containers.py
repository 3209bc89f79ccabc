"""The image, the Compose file and the Kubernetes manifests in `deploy/`: valid, hardened, and of one mind with the code."""

import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.support.environment import ROOT

DEPLOY = ROOT / "deploy"
PROGRAMS = Path(sysconfig.get_path("scripts"))
(UV,) = re.findall(r"uv==[\d.]+", (ROOT / "Makefile").read_text())
SETTINGS = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.M))
METRICS = (ROOT / "docs" / "operate.md").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
WORKER_SERVICE = (DEPLOY / "dreamsite-worker@.service").read_text()
STOP_SECONDS = int(re.findall(r"^TimeoutStopSec=(\d+)", WORKER_SERVICE, re.M)[0])
"""How long a stopping worker may take."""


def instructions(name: str) -> list[str]:
    """Return the arguments of the instructions of this name in the Containerfile, each on one line."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text())
    return re.findall(rf"^{name} (.*)$", text, re.M)


def objects(kind: str) -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from (found for found in yaml.safe_load_all(path.read_text()) if found["kind"] == kind)


def pods() -> Iterator[dict[str, Any]]:
    """Yield the specification of each pod."""
    for kind in ("Deployment", "Job"):
        yield from (workload["spec"]["template"]["spec"] for workload in objects(kind))


def run(program: str, *arguments: str | Path) -> str:
    """Return what a program prints. Raises `AssertionError` if it fails."""
    finished = subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_compose_file_follows_its_specification() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


@pytest.mark.parametrize("release", ["1.34", "1.37"])
def test_kubernetes_knows_every_property_of_the_manifests(release: str) -> None:
    run("kubernetes-validate", "--strict", "--kubernetes-version", release, *MANIFESTS)


def test_the_image_is_made_of_files_that_exist() -> None:
    copied = [words.split()[:-1] for words in instructions("COPY") if not words.startswith("--from")]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert f"!{source.rstrip('/')}" in ignored, source
    installed = {name for step in instructions("RUN") for name in re.findall(r"requirements/\S+\.txt", step)}
    assert {"requirements/run.txt", "requirements/torch.txt", "requirements/gpu.txt"} == installed
    assert [name for name in installed if not (ROOT / name).exists()] == []


def test_the_image_installs_wheels_that_are_pinned_by_hash() -> None:
    assert any("PIP_ONLY_BINARY=:all:" in words for words in instructions("ENV"))
    for step in instructions("RUN"):
        for command in step.split("&&"):
            if "pip install" in command:
                assert any(words in command for words in ("--require-hashes", "requirements/torch.txt", UV)), command


def test_the_image_has_one_user_who_is_not_root() -> None:
    (user,) = instructions("USER")
    number = int(user.partition(":")[0])
    assert number >= 10_000
    assert any(f"--uid {number} " in step for step in instructions("RUN"))
    assert {pod["securityContext"]["runAsUser"] for pod in pods()} == {number}


def test_all_data_are_in_a_volume() -> None:
    (volume,) = instructions("VOLUME")
    assert any(f"DATA_DIR={volume}" in words for words in instructions("ENV"))
    for pod in pods():
        (container,) = pod["containers"]
        assert {"name": "data", "mountPath": volume} in container["volumeMounts"]
    for service in ours():
        assert f"data:{volume}" in service["volumes"]


def ours() -> Iterator[dict[str, Any]]:
    """Yield the services of the Compose file that run this project."""
    yield from (service for service in COMPOSE["services"].values() if service["image"].startswith("dreamsite:"))


def test_containers_may_do_little() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
    for service in ours():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges"]
    # Only the site and the bucket are for others.
    assert {name for name, service in COMPOSE["services"].items() if "ports" in service} == {"web", "s3"}


def test_containers_run_commands_that_exist() -> None:
    commands = {service["command"][0] for service in ours()}
    assert commands == {"web", "worker", "reaper", "migrate"}
    assert {container["args"][0] for pod in pods() for container in pod["containers"]} == commands
    assert commands <= set(get_commands())


def test_every_variable_of_the_containers_is_a_setting() -> None:
    (configuration,) = objects("ConfigMap")
    variables = set(configuration["data"])
    for service in ours():
        variables |= set(service["environment"])
    for pod in pods():
        variables |= {variable["name"] for container in pod["containers"] for variable in container.get("env", [])}
    assert {"DATABASE_URL", "MODELS_DIR", "THREADS"} <= variables
    assert variables - SETTINGS == set()


def test_the_compose_file_reads_only_what_its_environment_names() -> None:
    read = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    named = set(re.findall(r"^(\w+)=", (DEPLOY / "compose.env").read_text(), re.M))
    assert named == {*read, "COMPOSE_PROFILES"}


def test_stopping_workers_are_not_killed_too_early() -> None:
    for service in ours():
        if service["command"][0] == "worker":
            assert service["stop_grace_period"] == f"{STOP_SECONDS}s"
    for pod in pods():
        if pod["containers"][0]["args"][0] == "worker":
            assert pod["terminationGracePeriodSeconds"] == STOP_SECONDS


def test_probes_and_ingress_ask_for_the_name_that_the_site_answers_to() -> None:
    (configuration,) = objects("ConfigMap")
    name = configuration["data"]["ALLOWED_HOSTS"].split(",")[0]
    (web,) = (container for pod in pods() for container in pod["containers"] if container["name"] == "web")
    assert web["startupProbe"]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": name}]
    (ingress,) = objects("Ingress")
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [name]


def test_workers_are_scaled_by_the_queue_of_their_own_pool() -> None:
    (configuration,) = objects("ConfigMap")
    workers = {workload["metadata"]["name"]: workload["spec"]["template"]["spec"] for workload in objects("Deployment")}
    pools = []
    for scaler in objects("HorizontalPodAutoscaler"):
        (metric,) = scaler["spec"]["metrics"]
        assert f"| `{metric['external']['metric']['name']}` | `pool` |" in METRICS
        pool = metric["external"]["metric"]["selector"]["matchLabels"]["pool"]
        (container,) = workers[scaler["spec"]["scaleTargetRef"]["name"]]["containers"]
        assert container["args"][:3] == ["worker", "--pool", pool]
        pools.append(pool)
    assert sorted(pools) == sorted(configuration["data"]["POOLS"].split(","))
