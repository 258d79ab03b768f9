"""What add-ons have the control plane that leads do: apply manifests, and wait for what they make.

All of it by kubectl of the cluster's own version, with server-side apply: the same again changes
nothing, and what a person changed in other fields stays.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from shlex import join, quote
from typing import Any, Final

import yaml

from provisioning.addons import Document
from provisioning.kinds import ClusterFacts, Step
from provisioning.kinds._kubeadm_steps import BUNDLE
from provisioning.targets import PartSpec

CONFIG: Final = "/etc/kubernetes/admin.conf"
MANIFESTS: Final = f"{BUNDLE}/files/manifests"
FOLDER: Final = "/etc/seed/addons"
CACHE: Final = "/var/lib/seed/kubectl"
"""A unit has no HOME, and kubectl would keep what the API server has below /."""
PATIENCE: Final = 7200
"""Seconds: a controller runs only once a worker is there, and workers may boot for long."""


def path(addon: str, name: str) -> str:
    return f"{FOLDER}/{addon}/{name}"


def text(*documents: Mapping[str, Any]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, width=1_000_000)


def part(where: str, *documents: Mapping[str, Any], mode: int = 0o644) -> PartSpec:
    """A file with these objects. What has a Secret in it is 0600."""
    if any(one.get("kind") == "Secret" for one in documents):
        mode = 0o600
    return PartSpec(where, where, mode, text(*documents).encode())


def kubectl(facts: ClusterFacts, *words: str) -> tuple[str, ...]:
    return (_program(facts), f"--kubeconfig={CONFIG}", f"--cache-dir={CACHE}", *words)


def apply(facts: ClusterFacts, addon: str, *paths: str, what: str = "objects") -> Step:
    named = [word for one in paths for word in ("-f", one)]
    argv = kubectl(facts, *_APPLY, *named)
    return _step(facts, addon, what, argv, paths)


def manifest(facts: ClusterFacts, addon: str, name: str) -> Step:
    """The bundle's, as it is."""
    return apply(facts, addon, f"{MANIFESTS}/{name}", what="manifest")


def customized(facts: ClusterFacts, addon: str, name: str) -> Step:
    """The bundle's, with what `customization` changes in it."""
    folder, source = f"{FOLDER}/{addon}", f"{MANIFESTS}/{name}"
    copied = f"cp {quote(source)} {quote(f'{folder}/manifest.yaml')}"
    argv = ("/bin/sh", "-euc", f"{copied}; exec {join(kubectl(facts, *_APPLY, '-k', folder))}")
    return _step(facts, addon, "manifest", argv, (source, f"{folder}/kustomization.yaml"))


def customization(
    addon: str, patches: Sequence[Document], replicas: Mapping[str, int] | None = None
) -> PartSpec:
    """kubectl's own Kustomize does it: strategic merge patches, each of an object that the manifest
    must have, else the step fails and names it."""
    told: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["manifest.yaml"],
        "patches": [{"patch": yaml.safe_dump(one, sort_keys=False)} for one in patches],
    }
    if replicas:
        told["replicas"] = [{"name": name, "count": count} for name, count in replicas.items()]
    return part(path(addon, "kustomization.yaml"), told)


def rolled_out(facts: ClusterFacts, addon: str, namespace: str, *workloads: str) -> list[Step]:
    """workloads: daemonset/NAME, deployment/NAME."""
    found = []
    for one in workloads:
        told = ("rollout", "status", one, f"--namespace={namespace}", "--timeout=240s")
        found.append(_step(facts, addon, one.partition("/")[2], kubectl(facts, *told), (), 300))
    return found


def established(facts: ClusterFacts, addon: str, *definitions: str) -> Step:
    """Custom resource definitions, that the API server knows by now."""
    named = [f"crd/{one}" for one in definitions]
    told = ("wait", "--for=condition=Established", *named, "--timeout=60s")
    return _step(facts, addon, "types", kubectl(facts, *told), ())


def secret(name: str, namespace: str, values: Mapping[str, str]) -> Document:
    """`data`, as its reference says of stringData that it does not go well with server-side
    apply."""
    packed = {key: b64encode(told.encode()).decode() for key, told in values.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": packed}


def storage_class(
    name: str,
    provisioner: str,
    *,
    default: bool,
    binding: str,
    reclaim: str,
    **more: Any,
) -> Document:
    """storage.k8s.io/v1."""
    metadata: Document = {"name": name}
    if default:
        metadata["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata,
        "provisioner": provisioner,
        "reclaimPolicy": reclaim,
        "volumeBindingMode": binding,
        **more,
    }


_APPLY: Final = (
    "apply", "--server-side", "--force-conflicts", "--field-manager=seed", "--request-timeout=60s",
)  # fmt: skip


def _program(facts: ClusterFacts) -> str:
    return f"{facts.options.get('programs', '/usr/local/bin')}/kubectl"


def _step(
    facts: ClusterFacts,
    addon: str,
    what: str,
    argv: tuple[str, ...],
    wants: Sequence[str],
    seconds: int = 120,
) -> Step:
    return Step(
        f"{addon} {what}", argv, (_program(facts), CONFIG, *wants), try_seconds=seconds,
        patience_seconds=PATIENCE,
    )  # fmt: skip
