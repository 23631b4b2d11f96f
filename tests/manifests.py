"""The manifests in deploy/kubernetes, read as kustomize reads them: as much of it as they use, and no more."""

import fnmatch
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.pages import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
CRDS = ROOT / "tests" / "crds"
OLDEST, NEWEST = "1.30", "1.37"
"""Versions of Kubernetes whose schemas the manifests are held against."""

Manifest = dict[str, Any]
_KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "components",
    "configMapGenerator",
    "images",
    "patches",
}
_API_VERSIONS = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}


def built(folder: Path = KUBERNETES) -> list[Manifest]:
    """What `kustomize build` makes of a folder, but for hashes in names and references to them."""
    return _built(folder, [], "Kustomization")


def _built(folder: Path, before: list[Manifest], kind: str) -> list[Manifest]:
    layer = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert layer.keys() <= _KNOWN, f"{folder}: {layer.keys() - _KNOWN}"
    assert (layer["kind"], layer["apiVersion"]) == (kind, _API_VERSIONS[kind])
    found = list(before)
    for name in layer.get("resources", []):
        path = folder / name
        found += _built(path, [], "Kustomization") if path.is_dir() else documents(path)
    for generator in layer.get("configMapGenerator", []):
        assert generator.keys() == {"name", "files"}
        data = {name: (folder / name).read_text(encoding="utf-8") for name in generator["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    for name in layer.get("components", []):
        found = _built(folder / name, found, "Component")
    for patch in layer.get("patches", []):
        _apply(patch, found)
    for image in layer.get("images", []):
        _rename(image, found)
    if "namespace" in layer:
        for manifest in found:
            manifest["metadata"]["namespace"] = layer["namespace"]
    return found


def _apply(patch: Mapping[str, Any], manifests: list[Manifest]) -> None:
    targets = [
        manifest
        for manifest in manifests
        if manifest["kind"] == patch["target"]["kind"]
        and fnmatch.fnmatch(manifest["metadata"]["name"], patch["target"]["name"])
    ]
    assert targets, patch["target"]
    for operation in yaml.safe_load(patch["patch"]):
        assert operation["op"] == "remove"
        *way, last = operation["path"].strip("/").split("/")
        for place in targets:
            for key in way:
                place = place[key]
            del place[last]


def _rename(image: Mapping[str, str], manifests: list[Manifest]) -> None:
    containers = [container for manifest in manifests for container in containers_of(manifest)]
    named = [container for container in containers if container["image"].partition(":")[0] == image["name"]]
    assert named, image
    for container in named:
        container["image"] = f"{image['newName']}:{image['newTag']}"


def documents(path: Path) -> list[Manifest]:
    """The manifests in a file."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def containers_of(manifest: Manifest) -> Iterator[Manifest]:
    """The containers of a workload; none of anything else."""
    yield from pod_of(manifest).get("containers", [])


def pod_of(manifest: Manifest) -> Manifest:
    """The specification of a workload's pods; empty for anything else."""
    template: Manifest = manifest.get("spec", {}).get("template", {})
    return template.get("spec", {}) if manifest["kind"] in ("Deployment", "StatefulSet") else {}


def require_valid(manifest: Manifest) -> None:
    """See that Kubernetes, or the operator whose kind it is, takes it, and knows every field in it.

    Raises:
        jsonschema.ValidationError: it is not so.
        KeyError: nobody knows that kind.
    """
    group = manifest["apiVersion"].partition("/")[0]
    if "." in group and not group.endswith("k8s.io"):
        jsonschema.validate(manifest, _custom_kinds()[f"{manifest['apiVersion']}/{manifest['kind']}"])
        return
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            raise KeyError(manifest["kind"]) from None


@cache
def _custom_kinds() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in CRDS.glob("*.json"):
        found |= json.loads(file.read_text(encoding="utf-8"))["schemas"]
    return {kind: _closed(schema) for kind, schema in found.items()}


def _closed(schema: Any) -> Any:
    """Kubernetes drops fields that it doesn't know, without a word: here they are errors."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed
