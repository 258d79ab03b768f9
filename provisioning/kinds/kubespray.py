"""Kubernetes by Kubespray: Ansible on the Seed machine, by SSH, in place of steps on the nodes.

What a node gets for it is a public key of this cluster's own and, on control planes, the address.
The inventory and its variables are those of Kubespray's own defaults: kubespray_defaults/defaults/
main/{main,download}.yml at 00034d7 and 005343f, kubernetes/client/defaults at 08a711b, node-label
and node-taint, validate_inventory at 92e8ac9; 2.27 and later write kube_version without a "v".
Kubespray makes the PKI itself: Seed has no key of it. Kubespray and ansible-runner are brought by
the operator, into an environment of their own; nothing of Seed imports them.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Interface
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from provisioning.kinds import (
    ClusterFacts,
    Fault,
    KubeApi,
    MemberFacts,
    Reach,
    Stays,
    Step,
    _faults,
    _kubeadm,
    _ssh,
    _vip,
    part,
)
from provisioning.kinds._kubeadm import BundleFile
from provisioning.kinds._kubeadm_steps import check
from provisioning.kinds.kubeadm import TAKEN
from provisioning.targets import PartSpec

PLAYBOOK: Final = "cluster.yml"
OFFLINE: Final = {
    "kubeadm": "kubeadm_download_url", "kubectl": "kubectl_download_url",
    "kubelet": "kubelet_download_url", "crictl.tar.gz": "crictl_download_url",
    "cni-plugins.tgz": "cni_download_url",
}  # fmt: skip
"""A bundle's file -> the variable that says where it is."""
OWN: Final = "{{ inventory_dir }}/../kubespray"
"""What Kubespray keeps on the Seed machine. By default it lies within the inventory, which Ansible
reads as a whole: the next run would take each file there for more hosts."""
REGISTRIES: Final = ("kube", "gcr", "github", "docker", "quay")
JOB_SECONDS, IDLE_SECONDS = 4 * 3600, 1800
URL: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?")


class Options(BaseModel):
    """network_plugin: Kubespray's kube_network_plugin. files_repo: a mirror of all that Kubespray
    downloads, laid out as its contrib/offline says; empty: it goes out. files: of the bundle.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network_plugin: Literal["calico", "cilium", "flannel", "kube-ovn", "kube-router", "cni"] = (
        "calico"
    )
    files_repo: Annotated[str, StringConstraints(max_length=255)] = ""
    files: tuple[BundleFile, ...] = ()


class Kubespray(Stays):
    name = "kubespray"
    kube: KubeApi | None = None
    environment = "kubespray"
    playbook = PLAYBOOK

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        if other := _faults.addresses(facts):
            return other
        found = [*_faults.words(facts), *_about_options(facts), *_vip.faults(facts, TAKEN)]
        return [*found, *_faults.ranges(facts), *_faults.pods(facts)]

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        """Those of _ssh.new_key, and "vrrp"."""
        return {**_ssh.new_key(facts.name), "vrrp": _vip.new_password()}

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        found = [part(_ssh.KEYS, secrets["ssh.pub"], 0o600)]
        if member.role == "control":
            port = _kubeadm.bind_port(facts)
            found += _vip.parts(facts, member, secrets["vrrp"], port, _kubeadm.HEALTH)
        return found

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        """The address alone: Ansible does the rest."""
        return _vip.steps(facts) if member.role == "control" else []

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        """Fails until Ansible was there."""
        return check()

    def tree(
        self, facts: ClusterFacts, secrets: dict[str, str], reached: dict[str, Reach]
    ) -> list[PartSpec]:
        """PLAYBOOK is of its project. Whose host key the proof did not tell is not spoken to."""
        variables = {"all/seed.yml": _of_all(facts), "k8s_cluster/seed.yml": _of_cluster(facts)}
        settings = {"job_timeout": JOB_SECONDS, "idle_timeout": IDLE_SECONDS}
        texts = {
            "inventory/hosts.yaml": _yaml(_inventory(facts, reached)),
            **{f"inventory/group_vars/{path}": _yaml(told) for path, told in variables.items()},
            "env/settings": _yaml(settings),
            "env/cmdline": "--user root\n",
            "known_hosts": _ssh.known_hosts((r.address, r.host_keys) for r in reached.values()),
            _ssh.KEY: secrets["ssh"],
        }
        return [part(path, text, 0o600) for path, text in texts.items()]


PLUGIN = Kubespray()


def _yaml(told: dict[str, Any]) -> str:
    return yaml.safe_dump(told, sort_keys=False, width=1_000_000)


def _inventory(facts: ClusterFacts, reached: dict[str, Reach]) -> dict[str, Any]:
    planes = _vip.control_planes(facts)
    workers = [member for member in facts.members if member.role == "worker"]
    groups = {
        "kube_control_plane": planes,
        "etcd": planes,
        # Without a worker the control planes bear pods.
        "kube_node": workers or planes,
    }
    hosts = {
        member.name: _host(facts, member, reached[member.name].address) for member in facts.members
    }
    children: dict[str, Any] = {
        group: {"hosts": {member.name: {} for member in members}}
        for group, members in groups.items()
    }
    children["k8s_cluster"] = {"children": {"kube_control_plane": {}, "kube_node": {}}}
    return {"all": {"hosts": hosts, "children": children}}


def _host(facts: ClusterFacts, member: MemberFacts, reached: str) -> dict[str, Any]:
    own = _vip.bare(member)
    told: dict[str, Any] = {
        "ansible_host": reached,
        "ip": own,
        "access_ip": own,
        "node_labels": dict(label.split("=", 1) for label in _kubeadm.labels(member)),
        "kubelet_custom_flags": [f"--provider-id=seed://{member.node_uuid}"],
    }
    if member.taints:
        told["node_taints"] = [*member.taints]
    if member.role == "control":
        told["etcd_member_name"] = member.name
    return told


def _of_all(facts: ClusterFacts) -> dict[str, Any]:
    options = Options.model_validate(facts.options)
    told: dict[str, Any] = {
        "ansible_ssh_common_args": _ssh.KNOWN,
        "credentials_dir": f"{OWN}/credentials",
        "artifacts_dir": f"{OWN}/artifacts",
        # Bare: Kubespray writes no name into /etc/hosts any more (its #12382, #12872).
        "apiserver_loadbalancer_domain_name": facts.vip,
        "loadbalancer_apiserver": {"address": facts.vip, "port": facts.api_port},
        "loadbalancer_apiserver_localhost": False,
    }
    if facts.registry:
        scheme, _, host = facts.registry.rstrip("/").rpartition("://")
        told["registry_host"] = host
        if scheme == "http":
            mirror = {"host": f"http://{host}", "capabilities": ["pull", "resolve"]}
            one = {"prefix": host, "server": f"http://{host}", "mirrors": [mirror]}
            told["containerd_registries_mirrors"] = [one]
        told |= {f"{name}_image_repo": "{{ registry_host }}" for name in REGISTRIES}
    if options.files_repo:
        told["files_repo"] = options.files_repo.rstrip("/")
        told |= {
            "github_url": "{{ files_repo }}/github.com",
            "dl_k8s_io_url": "{{ files_repo }}/dl.k8s.io",
            "storage_googleapis_url": "{{ files_repo }}/storage.googleapis.com",
            "get_helm_url": "{{ files_repo }}/get.helm.sh",
        }
    return told | _of_bundle(facts, options)


def _of_bundle(facts: ClusterFacts, options: Options) -> dict[str, str]:
    """Kubespray compares each with the digest that it knows."""
    if not facts.bundle_url:
        return {}
    url = facts.bundle_url.rstrip("/")
    known = {OFFLINE[file.name]: file.path for file in options.files if file.name in OFFLINE}
    return {variable: f"{url}/{path}" for variable, path in known.items()}


def _of_cluster(facts: ClusterFacts) -> dict[str, Any]:
    options = Options.model_validate(facts.options)
    return {
        "kube_version": facts.version,
        "kube_network_plugin": options.network_plugin,
        "kube_pods_subnet": facts.pod_cidr,
        "kube_service_addresses": facts.service_cidr,
        "kube_network_node_prefix": 24,
        # Of all addresses, so not where haproxy has the VIP.
        "kube_apiserver_port": _kubeadm.bind_port(facts),
        "supplementary_addresses_in_ssl_keys": [facts.vip],
        "cluster_name": facts.dns_domain,
        "container_manager": "containerd",
        "kubeconfig_localhost": True,
    }


def _about_options(facts: ClusterFacts) -> Iterator[Fault]:
    try:
        options = Options.model_validate(facts.options)
    except ValidationError as problem:
        for error in problem.errors():
            field = ".".join(str(word) for word in ("options", *error["loc"]))
            says = f"{field} is not as it must be: {error['msg']}"
            yield Fault(field, says, f"kubespray knows {', '.join(Options.model_fields)}.")
        return
    if options.files_repo and not URL.fullmatch(options.files_repo):
        says = f"options.files_repo {options.files_repo!r} is no URL"
        yield Fault("options.files_repo", says, "Write http://HOST/FOLDER.")
    networks = {IPv4Interface(member.address).network for member in facts.members}
    if options.network_plugin == "flannel" and len(networks) > 1:
        says = "its nodes are in more than one network, which was not tried with flannel"
        yield Fault("options.network_plugin", says, "Take calico or cilium.")
