"""As much of kustomize as ``deploy/k8s`` uses, for tests: no package registry has the program.

Fields that it does not know are refused, so that nothing is passed over.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
KNOWN = {
    "apiVersion", "kind", "resources", "labels", "namespace", "replicas", "images", "patches",
}  # fmt: skip
CLUSTER_WIDE = {"Namespace"}


def render(folder: Path) -> list[Resource]:
    """The resources of the kustomization in ``folder``."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(plan) - KNOWN
    if unknown:
        raise ValueError(f"{folder}: {sorted(unknown)} is not understood here")
    resources: list[Resource] = []
    for name in plan["resources"]:
        path = (folder / name).resolve()
        found = render(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
        resources += deepcopy(list(found))
    for entry in plan.get("labels", []):
        for resource in resources:
            _label(resource, entry["pairs"], entry.get("includeSelectors", False))
    for entry in plan.get("replicas", []):
        for resource in resources:
            if resource["kind"] == "Deployment" and resource["metadata"]["name"] == entry["name"]:
                resource["spec"]["replicas"] = entry["count"]
    for entry in plan.get("images", []):
        for container in (c for r in resources for c in _containers(r)):
            name, _, tag = container["image"].partition(":")
            if name == entry["name"]:
                container["image"] = f"{entry.get('newName', name)}:{entry.get('newTag', tag)}"
    for entry in plan.get("patches", []):
        operations = yaml.safe_load((folder / entry["path"]).read_text())
        chosen = [r for r in resources if _matches(r, entry["target"])]
        if not chosen:
            raise ValueError(f"{folder}: {entry['target']} matches nothing")
        for resource in chosen:
            for one in operations:
                _patch(resource, one)
    for resource in resources:
        if "namespace" in plan and resource["kind"] not in CLUSTER_WIDE:
            resource["metadata"]["namespace"] = plan["namespace"]
    return resources


def _containers(resource: Resource) -> list[Resource]:
    template = resource.get("spec", {}).get("template", {})
    found: list[Resource] = template.get("spec", {}).get("containers", [])
    return found


def _label(resource: Resource, pairs: dict[str, str], selectors: bool) -> None:
    resource["metadata"].setdefault("labels", {}).update(pairs)
    if not selectors:
        return
    spec = resource.get("spec", {})
    match resource["kind"]:
        case "Deployment":
            spec["selector"]["matchLabels"].update(pairs)
            spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(pairs)
        case "Service":
            spec["selector"].update(pairs)
        case "NetworkPolicy":
            spec["podSelector"]["matchLabels"].update(pairs)


def _matches(resource: Resource, target: dict[str, str]) -> bool:
    named = (resource["kind"], resource["metadata"]["name"])
    return named == (target["kind"], target["name"])


def _patch(resource: Resource, operation: dict[str, Any]) -> None:
    """One operation of RFC 6902: add or replace."""
    if operation["op"] not in ("add", "replace"):
        raise ValueError(f"{operation['op']} is not understood here")
    *way, last = operation["path"].strip("/").split("/")
    place: Any = resource
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list):
        if operation["op"] == "add" and last == "-":
            place.append(operation["value"])
        else:
            place[int(last)] = operation["value"]
        return
    if operation["op"] == "replace" and last not in place:
        raise ValueError(f"{operation['path']}: there is nothing to replace")
    place[last] = operation["value"]
