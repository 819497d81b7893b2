"""The recipes of deploy/ agree with the code: paths are routes, times are longer than the service's, options exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from proxy import CONFIGURATION

from danlu import __version__
from danlu.base.journal import MOST_BYTES
from danlu.cli.serve import command as serve_command
from danlu.serving import front
from danlu.serving.bodies import IMAGE_LIMIT
from danlu.serving.protocol import BODY_SECONDS, HEADER_SECONDS, KEEP_ALIVE_SECONDS
from danlu.serving.serve import ServeSettings
from danlu.serving.supervisor import AFTER_DRAIN

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "danlu@.service"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
NGINX = CONFIGURATION.read_text(encoding="utf-8")
MANIFESTS = sorted([*(DEPLOY / "kubernetes").glob("*.yaml"), *(DEPLOY / "kserve").glob("*.yaml")])
DRAIN = ServeSettings.drain_delay + ServeSettings.drain_seconds + AFTER_DRAIN
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
BYTES = {"": 1, "k": 2**10, "m": 2**20, "Mi": 2**20, "G": 2**30, "Gi": 2**30}


def manifest(kind: str) -> dict[str, Any]:
    for path in MANIFESTS:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if found["kind"] == kind:
            return dict(found)
    raise LookupError(kind)


def pods() -> list[Any]:
    """What is said of pods, with the name of the recipe."""
    return [
        pytest.param(manifest("Deployment")["spec"]["template"]["spec"], id="kubernetes"),
        pytest.param(manifest("InferenceService")["spec"]["predictor"], id="kserve"),
    ]


def unit() -> dict[str, list[str]]:
    """The settings of the unit, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def nginx(name: str) -> str:
    """The value of a directive that stands in the configuration once, outside `upstream`."""
    (found,) = re.findall(rf"^    {name} ([^;]+);", NGINX.partition("\nserver {")[2], re.MULTILINE)
    return str(found)


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * SECONDS[unit]


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return int(number) * BYTES[unit]


def routes() -> set[tuple[str, str]]:
    """Method and path of every route that stands in the code."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/danlu/serving").glob("*.py"))
    found = re.findall(r"\.(get|post)\(\s*\"(/[^\"]*)\"", text) + re.findall(
        r"add\(\s*\"(\w+)\",\s*\"(/[^\"]*)\"", text
    )
    return {(method.upper(), path) for method, path in found}


def options(words: list[str]) -> dict[str, Any]:
    """What `danlu serve` makes of the words. Raises where it does not know one."""
    return dict(serve_command.make_context("serve", list(words)).params)


# Kubernetes and KServe


@pytest.mark.parametrize("pod", pods())
def test_probes_ask_routes_that_need_no_key_or_there_is_none(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    told = options(container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[name]["httpGet"]
        assert ("GET", asked["path"]) in routes()
        assert asked["path"] in front.OPEN or (told["insecure"] and told["api_key_file"] is None)
        assert told["host"] == "0.0.0.0"
        assert ports.get(asked["port"], asked["port"]) == told["port"] == container["ports"][0]["containerPort"]
    assert "ready" in container["readinessProbe"]["httpGet"]["path"]
    assert "live" in container["livenessProbe"]["httpGet"]["path"]  # ready would restart a replica that drains


@pytest.mark.parametrize("pod", pods())
def test_pod_has_the_time_to_drain(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    program, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert pod["terminationGracePeriodSeconds"] > int(pause) + DRAIN


@pytest.mark.parametrize("pod", pods())
def test_pod_writes_only_where_it_has_a_volume(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    places = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    told = options(container["args"])
    journal = volumes[places[str(Path(told["journal"]).parent)]]["emptyDir"]
    assert size(journal["sizeLimit"]) > MOST_BYTES
    assert "emptyDir" in volumes[places["/tmp"]]
    if told["api_key_file"] is not None:
        secret = volumes[places[str(Path(told["api_key_file"]).parent)]]["secret"]
        assert Path(told["api_key_file"]).name in [item["path"] for item in secret["items"]]
        assert secret["defaultMode"] & 0o007 == 0


@pytest.mark.parametrize("pod", pods())
def test_workers_of_a_pod_are_as_many_as_its_processors(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert options(container["args"])["workers"] == int(container["resources"]["limits"]["cpu"])


def test_objects_of_kubernetes_name_each_other() -> None:
    deployment = manifest("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert manifest("Service")["spec"]["selector"] == labels
    for kind, name in [("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")]:
        assert manifest(kind)["spec"][name]["matchLabels"] == labels
    scaler = manifest("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["minReplicas"] > manifest("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert "replicas" not in deployment["spec"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {manifest("Service")["spec"]["ports"][0]["targetPort"]} == {port["name"] for port in container["ports"]}
    listed = manifest("Kustomization")
    assert sorted(listed["resources"]) == sorted(
        path.name for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"
    )
    assert listed["images"][0]["name"] == container["image"].rpartition(":")[0]


# The images


def test_image_starts_as_the_deployment_does_and_as_the_same_user() -> None:
    words = shlex.split(re.search(r"^CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)[1].replace(",", " "))  # type: ignore[index]
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    told = options(pod["containers"][0]["args"])
    assert options(words) == {**told, "workers": None}
    users = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert users == [(str(pod["securityContext"]["runAsUser"]), str(pod["securityContext"]["runAsGroup"]))]
    assert f"EXPOSE {told['port']}\n" in DOCKERFILE
    assert f"http://127.0.0.1:{told['port']}{front.OPEN[1]}'" in DOCKERFILE


def test_build_gets_what_it_copies_and_no_data() -> None:
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line for line in kept if line and not line.startswith("#")]
    assert kept[0] == "*"
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert {f"!{name}" for name in names} == {line for line in kept if line.startswith("!")}
    assert all((ROOT / name).exists() for name in names)
    meant = re.search(r"--target danlu -t \S+:(\S+)", DOCKERFILE)
    assert meant is not None and meant[1] == __version__


# systemd


def test_unit_starts_the_service_and_waits_until_it_is_ready() -> None:
    found = unit()
    (start,) = found["ExecStart"]
    program, verb, *words = shlex.split(start.replace("%i", "8001"))
    told = options(words)
    assert (Path(program).name, verb, told["port"]) == ("danlu", "serve", 8001)
    assert told["api_key_file"] == "${CREDENTIALS_DIRECTORY}/" + found["LoadCredential"][0].partition(":")[0]
    assert told["journal"].startswith("${STATE_DIRECTORY}/") and "StateDirectory" in found
    assert found["ExecStartPost"][0].endswith(f" http://{ServeSettings.host}:%i{front.OPEN[1]}")


def test_unit_lets_the_service_drain() -> None:
    found = unit()
    assert int(found["TimeoutStopSec"][0]) > DRAIN
    assert (found["KillMode"], found["KillSignal"]) == (["mixed"], ["SIGTERM"])
    assert "-HUP" in found["ExecReload"][0]


def test_unit_is_taken_by_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = re.sub(r"(?<==)(/opt/danlu/bin/danlu|/usr/bin/curl|/bin/kill) ", "/bin/true ", UNIT.read_text("utf-8"))
    (tmp_path / "danlu@8001.service").write_text(text, encoding="utf-8")
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "danlu@8001.service")], capture_output=True, text=True
    )
    assert (told.returncode, told.stderr) == (0, "")


# nginx


def test_limit_of_a_body_is_the_services() -> None:
    assert size(nginx("client_max_body_size")) == IMAGE_LIMIT
    assert NGINX.count(f"larger than {IMAGE_LIMIT // 2**20} MiB") == 2
    assert nginx("proxy_request_buffering") == "on"


def test_times_of_nginx_go_with_those_of_the_service() -> None:
    upstream = NGINX.partition("\nserver {")[0]
    (idle,) = re.findall(r"^    keepalive_timeout (\w+);", upstream, re.MULTILINE)
    assert seconds(idle) < KEEP_ALIVE_SECONDS
    assert seconds(nginx("proxy_read_timeout")) > ServeSettings.deadline
    assert seconds(nginx("client_header_timeout")) == HEADER_SECONDS
    assert seconds(nginx("client_body_timeout")) == BODY_SECONDS
    (leave,) = set(re.findall(r"fail_timeout=(\w+)", upstream))
    assert f"After two, a replica is left alone for {seconds(leave):g} s" in upstream
    pause = seconds(nginx("proxy_next_upstream_timeout"))
    assert pause > seconds(nginx("proxy_read_timeout"))  # else nobody else is asked


def test_every_replica_is_also_asked_when_all_are_left_alone() -> None:
    named = re.findall(r"^    server (\S+) (.*);$", NGINX, re.MULTILINE)
    first = [name for name, rest in named if "backup" not in rest]
    assert first == [name for name, rest in named if rest == "max_fails=0 backup"]


def test_what_is_not_public_are_routes() -> None:
    (hidden,) = re.findall(r"location ~ \^/\(([^)]*)\)", NGINX)
    paths = {"/" + name.replace("\\", "") for name in hidden.split("|")}
    assert paths - {"/openapi.json"} <= {path for _, path in routes()}
    assert "/metrics" in paths


def test_ids_that_nginx_keeps_are_those_the_service_takes() -> None:
    assert f'"~^{front._ID.pattern.decode()}$"' in NGINX


# The words about it


def test_every_file_is_in_the_readme_and_every_named_file_is_there() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.name != "README.md":
            folder = path.parent.relative_to(DEPLOY)
            assert path.name in text or f"{folder}/" in text, path
    for name in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DEPLOY / name).exists(), name
    assert "deploy/README.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_of_the_readme_are_known() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"danlu serve ([^`\n#|&]*)", text)
    assert found
    for words in found:
        try:
            options(shlex.split(words))
        except click.ClickException as error:
            pytest.fail(f"danlu serve {words}: {error}")
