"""What Prometheus and Grafana are given asks for metrics, labels and codes that there are."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from topwork.kinds import JobState

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
SOURCES = ("app/api/metrics.py", "app/asgi/metrics.py", "app/predictor/metrics.py")
BOARD = json.loads((MONITORING / "grafana/topwork.json").read_text())
(GROUP,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
ALERTS: list[dict[str, Any]] = GROUP["rules"]
SHOWN = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
ASKED = [*SHOWN, *(alert["expr"] for alert in ALERTS)]


CODES = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))


def names(expression: str) -> set[str]:
    return set(re.findall(r"topwork_\w+", expression))


def test_metrics_that_are_asked_for_are_made() -> None:
    text = "".join((ROOT / path).read_text() for path in SOURCES)
    made = set(re.findall(r'"(topwork_\w+)"', text))
    known = {end for name in made for end in (name, f"{name}_total", f"{name}_bucket")}
    asked = set().union(*map(names, ASKED))
    assert len(asked) >= 12
    assert asked <= known


def test_labels_that_are_asked_for_have_such_values() -> None:
    states = {state.value for state in JobState}
    values = {"job": {"topwork"}, "state": states, "code": CODES, "status": {"503"}}
    chosen = [pair for one in ASKED for pair in re.findall(r'(\w+)=~?"([^"]+)"', one)]
    assert {label for label, _ in chosen} == values.keys()
    for label, alternatives in chosen:
        assert set(alternatives.split("|")) <= values[label], alternatives


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"Topwork[A-Z]\w+", alert["alert"])
    assert alert["annotations"].keys() == {"summary", "action"}


def test_prometheus_reads_the_alerts_from_where_they_are_mounted() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    (place,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["rule_files"]
    assert f"./deploy/monitoring/alerts.yml:{place}:ro" in services["prometheus"]["volumes"]


def test_alerts_come_when_they_should_and_not_before(tmp_path: Path) -> None:
    """Prometheus' own tester feeds them the series of `alerts.yml` beside this file."""
    promtool = shutil.which("promtool")
    if promtool is None:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse("promtool is not installed: Debian's package `prometheus` has it")
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    cases = (Path(__file__).parent / "alerts.yml").read_text()
    for alert in ALERTS:
        assert cases.count(alert["alert"]) >= 2
    (tmp_path / "cases.yml").write_text(cases)
    test = [promtool, "test", "rules", str(tmp_path / "cases.yml")]
    done = subprocess.run(test, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
