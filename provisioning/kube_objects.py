"""What a check makes in a cluster: what the strictest Pod Security Standard allows."""

from collections.abc import Sequence
from typing import Any, Final

Document = dict[str, Any]

PORT: Final = 8080
COREFILE: Final = f".:1053 {{\n    errors\n    health :{PORT} {{\n        lameduck 0s\n    }}\n}}\n"
NOBODY: Final = 65534
"""Its user, so that no image says which one it is."""


def namespace(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(
    namespace: str, name: str, image: str, command: Sequence[str] = (), *, once: bool = False,
    volume: bool = False,
) -> Document:  # fmt: skip
    """command: empty: the image's own. once: it ends. volume: with that of `claim`."""
    container: Document = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip
    if command:
        container["command"] = list(command)
    spec: Document = {
        "restartPolicy": "Never" if once else "Always",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    if volume:
        spec["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]
        container["volumeMounts"] = [{"name": "disk", "mountPath": "/disk"}]
    about = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}


def corefile(namespace: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "web", "namespace": namespace},
        "data": {"Corefile": COREFILE},
    }


def web(namespace: str, image: str) -> Document:
    """A CoreDNS that says that it is well, near the cluster's own: its image is there."""
    found = pod(namespace, "web", image)
    (container,) = found["spec"]["containers"]
    # Its program has this capability in its file, and does not start where it cannot have it.
    container["securityContext"]["capabilities"]["add"] = ["NET_BIND_SERVICE"]
    container["args"] = ["-conf", "/etc/coredns/Corefile"]
    container["ports"] = [{"containerPort": PORT}]
    container["readinessProbe"] = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 2}
    container["volumeMounts"] = [{"name": "corefile", "mountPath": "/etc/coredns"}]
    near = {
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "namespaces": ["kube-system"],
            "topologyKey": "kubernetes.io/hostname",
        },
    }
    found["spec"] |= {
        "volumes": [{"name": "corefile", "configMap": {"name": "web"}}],
        "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [near]}},
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}],
    }
    return found


def service(namespace: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": PORT, "targetPort": PORT}]},
    }


def claim(namespace: str, storage_class: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "16Mi"}},
        },
    }
