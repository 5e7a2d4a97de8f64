"""The example for Kubernetes; ``kubernetes-validate`` reads it against the schema."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from taskflow.cli.commands import taskflow
from taskflow.settings import Duration
from tests.deploy.stack import FILES

(MANIFEST,) = (FILES / "kubernetes").glob("*.yaml")
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST.read_text("utf-8")))


def _of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {
        each["metadata"]["name"]: each for each in DOCUMENTS if each["kind"] == kind
    }


PODS = {
    name: each["spec"]["template"]["spec"]
    for name, each in _of_kind("Deployment").items()
}


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_may_do_no_more_than_it_must(name: str) -> None:
    """No root, no capability, no token, no file of its own but below /tmp."""
    pod = PODS[name]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]
    assert [{"name": "tmp", "mountPath": "/tmp"}] == container["volumeMounts"]  # noqa: S108


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_service_sets_no_setting(name: str) -> None:
    """One called taskflow-api would set TASKFLOW_API_PORT to a URL."""
    assert PODS[name]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", sorted(PODS))
def test_the_commands_of_a_pod_are_there(name: str) -> None:
    """Those that run it, and those that probe it."""
    (container,) = PODS[name]["containers"]
    probes = [container["readinessProbe"], container["livenessProbe"]]
    commands = [probe["exec"]["command"] for probe in probes if "exec" in probe]

    for program, *arguments in [container["args"], *commands]:
        assert program in {"taskflow", "taskflow-worker"}
        words = [word for word in arguments if word.isalpha()]
        told = CliRunner().invoke(taskflow, [*words, "--help"])
        assert 0 == told.exit_code, told.output


def test_a_worker_has_more_time_to_stop_than_it_uses() -> None:
    """The platform kills five seconds after the worker has handed back."""
    used = _of_kind("ConfigMap")["taskflow"]["data"]["WORKER_STOP_GRACE_PERIOD"]
    allowed = PODS["taskflow-worker"]["terminationGracePeriodSeconds"]

    assert Duration(0.0, 1e6).read(used) + 5 <= allowed


def test_selectors_find_the_pods_they_mean() -> None:
    """Each service and budget has a deployment whose pods it selects."""
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in _of_kind("Deployment").values()
    ]
    budgets = _of_kind("PodDisruptionBudget").values()
    services = _of_kind("Service").values()
    wanted = [each["spec"]["selector"]["matchLabels"] for each in budgets]
    wanted += [each["spec"]["selector"] for each in services]

    assert all(selector in labels for selector in wanted)


def test_the_file_is_named_in_the_guide() -> None:
    """So that somebody finds it."""
    guide = (Path(__file__).parents[2] / "docs/guide/deployment.md").read_text("utf-8")

    assert "examples/deploy/kubernetes/" in guide
