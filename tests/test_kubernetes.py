"""The manifests of deploy/kubernetes: valid by Kubernetes' schemas, and what they name is there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FILES = sorted((Path(__file__).parent.parent / "deploy" / "kubernetes").glob("*.yaml"))
RESOURCES = [resource for path in FILES for resource in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
VALIDATE = os.environ.get("KUBERNETES_VALIDATE") or shutil.which("kubernetes-validate")
DEPLOYMENTS = [each for each in RESOURCES if each["kind"] == "Deployment"]


def of_kind(kind):
    return {each["metadata"]["name"]: each for each in RESOURCES if each["kind"] == kind}


def pods_with(labels):
    """The deployments whose pods have these labels."""
    return [each for each in DEPLOYMENTS if labels.items() <= each["spec"]["template"]["metadata"]["labels"].items()]


def container(deployment):
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return found


def options(deployment):
    """Its command's options with their values; those after -- are vLLM's."""
    return dict(
        re.fullmatch(r"--([a-z-]+)=(.*)", word).groups() for word in container(deployment)["args"] if word != "--"
    )


@pytest.mark.skipif(VALIDATE is None, reason="needs kubernetes-validate, on the path or named by KUBERNETES_VALIDATE")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_schemas_of_kubernetes_allow_them(path, tmp_path):
    assert VALIDATE is not None
    assert subprocess.run([VALIDATE, "--strict", path]).returncode == 0
    wrong = tmp_path / path.name  # so that passing means something
    wrong.write_text(path.read_text(encoding="utf-8").replace("metadata:\n  name:", "metadata:\n  nam:"))
    assert subprocess.run([VALIDATE, "--strict", wrong]).returncode != 0


def test_every_service_and_budget_selects_one_deployment():
    assert len(DEPLOYMENTS) == 2
    for service in of_kind("Service").values():
        (deployment,) = pods_with(service["spec"]["selector"])
        ports = {port["name"] for port in container(deployment)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for budget in of_kind("PodDisruptionBudget").values():
        (deployment,) = pods_with(budget["spec"]["selector"]["matchLabels"])
        assert 0 < budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]
    for deployment in DEPLOYMENTS:
        assert pods_with(deployment["spec"]["selector"]["matchLabels"]) == [deployment]


def test_probes_ask_for_health_at_a_port_that_is_there():
    for deployment in DEPLOYMENTS:
        found = container(deployment)
        probes = [found[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
        assert found["readinessProbe"]["httpGet"]["path"] == "/health"
        ports = {port["name"]: port["containerPort"] for port in found["ports"]}
        assert ports == {"http": int(options(deployment)["port"])}
        for probe in probes:
            assert probe.get("httpGet", {"path": "/health"})["path"] == "/health"
            assert (probe.get("httpGet") or probe["tcpSocket"])["port"] == "http"


def test_the_front_calls_the_replicas_service():
    front, replicas = of_kind("Deployment")["mull"], of_kind("Service")["mull-replicas"]
    port = replicas["spec"]["ports"][0]["port"]
    assert options(front)["upstream"] == f"http://{replicas['metadata']['name']}:{port}"
    assert "nvidia.com/gpu" not in container(front)["resources"]["limits"]


def test_a_replica_divides_its_model_over_the_gpus_that_it_gets():
    replicas = of_kind("Deployment")["mull-replicas"]
    gpus = container(replicas)["resources"]["limits"]["nvidia.com/gpu"]
    assert options(replicas)["tensor-parallel-size"] == str(gpus)


def test_volumes_secrets_and_folders_are_there():
    claims, names, secrets = set(of_kind("PersistentVolumeClaim")), set(), set()
    for resource in [*DEPLOYMENTS, *of_kind("Job").values()]:
        spec = resource["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        mounts = container(resource).get("volumeMounts", [])
        assert {mount["name"] for mount in mounts} == set(volumes)
        names |= {
            each["persistentVolumeClaim"]["claimName"] for each in volumes.values() if "persistentVolumeClaim" in each
        }
        sources = [
            each["valueFrom"]["secretKeyRef"] for each in container(resource).get("env", []) if "valueFrom" in each
        ]
        secrets |= {(source["name"], source["key"]) for source in sources}
    assert names == claims == {"mull-checkpoints"}
    assert secrets == {("mull", "api-key")}
    page = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert "kubectl create secret generic mull --from-literal=api-key=" in page
    script = container(of_kind("Job")["mull-checkpoints"])["args"][0]
    given = options(of_kind("Deployment")["mull-replicas"])
    for side in ("instruct", "thinking"):
        assert given[side] == f"/checkpoints/{side}" and f"--local-dir {side}\n" in script
