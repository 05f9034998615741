"""The software bill of materials of a bundle, in CycloneDX 1.6 JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.exception import CycloneDxException
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

# Component type and package-url type by kind of file; the others are no components of their own (indexes, the page's files).
KINDS = {
    "deb": (ComponentType.LIBRARY, "deb"),
    "conda": (ComponentType.LIBRARY, "conda"),
    "wheel": (ComponentType.LIBRARY, "pypi"),
    "controller": (ComponentType.LIBRARY, "pypi"),
    "installer": (ComponentType.APPLICATION, "generic"),
    "model": (ComponentType.MACHINE_LEARNING_MODEL, "huggingface"),
}


def sbom(bundle: Mapping[str, Any], page_packages: Iterable[Mapping[str, str]]) -> str:
    """JSON text. bundle: the manifest. page_packages: the npm packages in the page, as name, version, licence, source."""
    bom = Bom()
    bom.metadata.timestamp = datetime.fromisoformat(bundle["made"].replace("Z", "+00:00"))
    bom.metadata.component = Component(
        name="bedplate-bundle", version=bundle["checkout"] or None, type=ComponentType.PLATFORM, bom_ref="bundle"
    )
    for component in _components(bundle, page_packages):
        bom.components.add(component)
    bom.register_dependency(bom.metadata.component, bom.components)
    return str(JsonV1Dot6(bom).output_as_string(indent=1))


def _components(bundle: Mapping[str, Any], page_packages: Iterable[Mapping[str, str]]) -> Iterator[Component]:
    models = set()
    for entry in bundle["files"]:
        if entry["kind"] == "model":
            # One component per model, whose files the manifest lists.
            if (entry["name"], entry["version"]) in models:
                continue
            models.add((entry["name"], entry["version"]))
        if entry["kind"] in KINDS:
            yield _component(entry, *KINDS[entry["kind"]])
    for package in page_packages:
        yield _component({**package, "kind": "page", "path": f"page/{package['name']}"}, ComponentType.LIBRARY, "npm")


def _component(entry: Mapping[str, Any], kind: ComponentType, scheme: str) -> Component:
    component = Component(
        name=entry["name"],
        version=entry["version"] or None,
        type=kind,
        bom_ref=f"{entry['path']}@{entry['version']}",
        purl=package_url(entry, scheme),
    )
    if entry.get("sha256") and entry["kind"] != "model":
        component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=entry["sha256"]))
    if entry["licence"]:
        component.licenses.add(_licence(entry["licence"]))
    if "://" in entry["source"]:
        reference = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(entry["source"]))
        component.external_references.add(reference)
    return component


def _licence(said: str) -> Any:
    """An SPDX id or expression where the package's own words are one, else a licence of that name."""
    try:
        return LicenseFactory().make_from_string(said)
    except (CycloneDxException, ValueError):
        return DisjunctiveLicense(name=said)


def package_url(entry: Mapping[str, Any], scheme: str) -> PackageURL:
    """pkg:deb/debian/nginx@1.22.1-9?arch=amd64, pkg:pypi/torch@2.13.0, pkg:huggingface/org/name@commit ..."""
    name, namespace, qualifiers = str(entry["name"]), "", {}
    if scheme == "deb":
        namespace = entry["path"].split("/")[1].partition("-")[0]
        qualifiers = {"arch": entry["architecture"], "distro": "-".join(entry["path"].split("/")[1].split("-")[:2])}
    elif scheme == "conda":
        qualifiers = {"subdir": entry["path"].split("/")[-2]}
    elif scheme in ("huggingface", "npm") and "/" in name:
        namespace, _, name = name.rpartition("/")
    elif scheme == "pypi":
        name = name.replace("_", "-").lower()
    return PackageURL(scheme, namespace or None, name, entry["version"] or None, qualifiers or None)
