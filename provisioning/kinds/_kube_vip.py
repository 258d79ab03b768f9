"""kube-vip in keepalived's place: a static pod moves the address, haproxy serves on it as before.

Who has the address is elected in the cluster's own etcd, so the pod needs no credential of its API,
and runs before there is one. Flags and variables are those of kube-vip's cmd/kube-vip.go and
pkg/kubevip/config_envvar.go at 00337a7, the mode is the one of its testing/e2e/etcd at 3e3fd21.
Not seen here: its image cannot be had where Seed is tested.
"""

from collections.abc import Sequence
from typing import Any, Final

import yaml

from provisioning import addons
from provisioning.kinds import ClusterFacts, Fault, Fresh, MemberFacts, Step, _vip, part
from provisioning.targets import PartSpec

NAME: Final = "kube-vip"
POD: Final = "/etc/seed/kubeadm/kube-vip.yaml"
MANIFEST: Final = "/etc/kubernetes/manifests/kube-vip.yaml"
ETCD: Final = "/etc/kubernetes/pki/etcd"
# As Kubernetes' own components elect: kube-vip's 5, 3 and 1 are too few for a slow disk of etcd.
_SECONDS: Final = {"vip_leaseduration": "15", "vip_renewdeadline": "10", "vip_retryperiod": "2"}
_BEGIN = "systemctl enable haproxy.service && systemctl restart haproxy.service"
_INSTALL = f"install -D -m 600 {POD} {MANIFEST}"
# It gives the address up as it ends; haproxy serves until then.
_LEAVE = """\
rm -f {manifest}
for try in $(seq 60); do
  ip -o address show to {vip} | grep -q . || break
  sleep 1
done
systemctl disable --now haproxy.service
"""


def image(facts: ClusterFacts) -> str:
    """Its whole name, as the bundle's archive has it; empty: there is none."""
    named = (str(one.get("source", "")) for one in addons.archives(facts, NAME))
    return next((name.removeprefix("oci://") for name in named if name), "")


def faults(facts: ClusterFacts) -> list[Fault]:
    if image(facts):
        return []
    says = "there is no bundle with an archive of the image kube-vip, whose source is told"
    remedy = "Put images/kube-vip_TAG.tar into one (docs/bundles.md), or leave options.vip out."
    return [Fault("options.vip", says, remedy)]


def parts(
    facts: ClusterFacts, member: MemberFacts, to_port: int, check: Sequence[str]
) -> list[PartSpec]:
    """Of a control plane, in place of _vip's."""
    pod = yaml.safe_dump(_pod(facts, member), sort_keys=False)
    found = [part(one.path, one.content) for one in fresh(facts, member, to_port, check)]
    return [*found, part(POD, pod, 0o600)]


def fresh(
    facts: ClusterFacts, member: MemberFacts, to_port: int, check: Sequence[str]
) -> list[Fresh]:
    told = _vip.fresh(facts, member, to_port, check)
    return [one for one in told if one.path == _vip.HAPROXY]


def steps() -> list[Step]:
    """Of a control plane, before anything of Kubernetes."""
    programs = ("/usr/sbin/haproxy", _vip.HAPROXY)
    return [Step("load balancer", ("/bin/sh", "-euc", _BEGIN), programs)]


def begin(ask: str) -> Step:
    """Of the first, before it begins the cluster. ask: whether there is one already: then it joins
    that, and kubeadm wants the folder of static pods to be empty."""
    return Step("first address", ("/bin/sh", "-euc", f"{ask} || {_INSTALL}"), (POD,))


def joined() -> Step:
    """Of a control plane that is one."""
    return Step("address", ("/bin/sh", "-euc", _INSTALL), (POD,))


def leave(facts: ClusterFacts) -> list[Step]:
    told = _LEAVE.format(manifest=MANIFEST, vip=facts.vip)
    return [Step("hand over address", ("/bin/sh", "-euc", told))]


def _pod(facts: ClusterFacts, member: MemberFacts) -> dict[str, Any]:
    told = {
        "vip_arp": "true", "vip_leaderelection": "true", "vip_interface": member.interface,
        "address": facts.vip, "port": str(facts.api_port), "cp_enable": "true",
        "cp_namespace": "kube-system", **_SECONDS,
    }  # fmt: skip
    node = {"name": "vip_nodename", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    container = {
        "name": NAME,
        "image": image(facts),
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "manager",
            "--leaderElectionType=etcd",
            f"--etcdCACert={ETCD}/ca.crt",
            f"--etcdCert={ETCD}/healthcheck-client.crt",
            f"--etcdKey={ETCD}/healthcheck-client.key",
            "--etcdEndpoints=127.0.0.1:2379",
            "--prometheusHTTPServer=",  # else of all addresses
        ],
        "env": [*({"name": name, "value": value} for name, value in told.items()), node],
        "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}},
        "volumeMounts": [{"name": "etcd", "mountPath": ETCD, "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": "kube-system"},
        "spec": {
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "containers": [container],
            "volumes": [{"name": "etcd", "hostPath": {"path": ETCD, "type": "Directory"}}],
        },
    }
