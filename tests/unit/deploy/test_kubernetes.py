"""The manifests: valid for Kubernetes, of one piece, and of the server as it is."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from cloud import health
from cloud.observability.metrics import Metrics, exposition
from cloud.settings import load
from tests.support.dispatchers import nothing_counted
from tests.support.kustomize import Resource, render
from tests.support.processes import ROOT

FOLDER = ROOT / "deploy" / "k8s"
OVERLAYS = ("single", "production")
VERSION = "1.33"  # the oldest that we say works: sleep in preStop is stable there


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return render(FOLDER / "overlays" / request.param)


def of_kind(resources: list[Resource], kind: str) -> list[Resource]:
    return [one for one in resources if one["kind"] == kind]


def pod(resources: list[Resource]) -> Resource:
    (deployment,) = of_kind(resources, "Deployment")
    spec: Resource = deployment["spec"]["template"]["spec"]
    return spec


def variables(resources: list[Resource]) -> dict[str, str]:
    (container,) = pod(resources)["containers"]
    return {one["name"]: one["value"] for one in container["env"]}


def test_every_resource_is_valid(resources: list[Resource]) -> None:
    for one in resources:
        kubernetes_validate.validate(one, VERSION, strict=True)
        assert one["metadata"]["namespace"] == "taper"


def test_the_validation_can_fail(resources: list[Resource]) -> None:
    (deployment,) = of_kind(resources, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagee"] = "typo"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSION, strict=True)


def test_selectors_find_the_pods(resources: list[Resource]) -> None:
    (deployment,) = of_kind(resources, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors: list[Any] = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"] for one in of_kind(resources, "Service")]
    selectors += [
        one["spec"]["podSelector"]["matchLabels"] for one in of_kind(resources, "NetworkPolicy")
    ]
    for one in of_kind(resources, "PodDisruptionBudget"):
        selectors.append(one["spec"]["selector"]["matchLabels"])
    assert all(selector and selector.items() <= labels for selector in selectors)


def test_ports_are_those_that_the_server_opens(resources: list[Resource]) -> None:
    (container,) = pod(resources)["containers"]
    settings = load({}, environment=variables(resources))
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"grpc": settings.port, "metrics": settings.metrics_port}
    for service in of_kind(resources, "Service"):
        assert {one["targetPort"] for one in service["spec"]["ports"]} <= set(ports)


def test_pods_outlive_their_drain(resources: list[Resource]) -> None:
    spec = pod(resources)
    wait_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(variables(resources)["TAPER_DRAIN_SECONDS"])
    assert spec["terminationGracePeriodSeconds"] > wait_s + drain_s


def test_pods_may_do_little(resources: list[Resource]) -> None:
    spec = pod(resources)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["image"].endswith(":latest")


def test_production_is_scaled_by_a_metric_that_there_is() -> None:
    resources = render(FOLDER / "overlays" / "production")
    (scaler,) = of_kind(resources, "HorizontalPodAutoscaler")
    named = [m["pods"]["metric"]["name"] for m in scaler["spec"]["metrics"] if "pods" in m]
    page = exposition(Metrics().snapshot({"queue_samples": 0}, [], nothing_counted()))
    assert named
    assert all(f"\n{name} " in page.decode() for name in named)
    (budget,) = of_kind(resources, "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] < scaler["spec"]["minReplicas"]


def test_production_probes_over_tls() -> None:
    resources = render(FOLDER / "overlays" / "production")
    (container,) = pod(resources)["containers"]
    assert variables(resources)["TAPER_TLS_CERT"].startswith("/tls/")
    command = container["readinessProbe"]["exec"]["command"]
    assert command[:3] == ["python", "-m", "cloud.health"]
    given = health.parse(command[3:])
    assert str(given.ca).startswith(container["volumeMounts"][0]["mountPath"])
    (volume,) = pod(resources)["volumes"]
    assert volume["name"] == container["volumeMounts"][0]["name"]


def test_the_autoscaler_alone_decides_how_many_there_are() -> None:
    resources = render(FOLDER / "overlays" / "production")
    (deployment,) = of_kind(resources, "Deployment")
    assert "replicas" not in deployment["spec"]  # or each apply would undo the autoscaler


def test_liveness_does_not_depend_on_the_serving_loop(resources: list[Resource]) -> None:
    (container,) = pod(resources)["containers"]
    assert set(container["livenessProbe"]) & {"grpc", "httpGet", "exec"} == set()


def test_services_set_no_variables_that_are_settings(resources: list[Resource]) -> None:
    assert pod(resources)["enableServiceLinks"] is False


def test_production_can_be_reached_from_outside() -> None:
    resources = render(FOLDER / "overlays" / "production")
    types = [one["spec"].get("type") for one in of_kind(resources, "Service")]
    assert types.count("LoadBalancer") == 1
