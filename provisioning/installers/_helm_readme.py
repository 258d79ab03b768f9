"""README.txt of openstack-helm's files: the commands, in order."""

from collections.abc import Iterator

from provisioning.installers import OvercloudFacts

OWN = ("openvswitch", "ovn", "libvirt", "placement", "nova", "neutron")
"""Charts of the compute kit, in the order in which they wait for each other."""


def text(facts: OvercloudFacts, cluster: str, backend: str, vip: str, features: str) -> str:
    """features: the words by which the helm plugin `osh` finds a release's values."""
    paragraphs = [
        [f"OpenStack {facts.name} on the Kubernetes cluster {cluster}, by OpenStack-Helm.",
         "Run all of it in this folder. helm needs the repository openstack-helm and the plugin",
         "osh: openstack-helm's documentation, \"Before deployment\"."],
        ["1. The cluster",
         f"   seed cluster kubeconfig {cluster}",
         f"   export KUBECONFIG=$PWD/{cluster}.kubeconfig",
         f"   kubectl get nodes {' '.join(node.name for node in facts.nodes)}",
         "   All of them must be there: `apply` would make a node that is not.",
         "   kubectl apply --server-side --field-manager seed-overcloud -f node-labels.yaml",
         "   Control planes that shall run OpenStack must bear its pods:",
         "   kubectl taint nodes -l node-role.kubernetes.io/control-plane \\",
         "     node-role.kubernetes.io/control-plane:NoSchedule-"],
        ["2. What must be there before",
         "   A storage class named general, and with it Ceph by Rook.", *_disks(facts),
         "   MetalLB (Seed's add-on metallb) and Envoy Gateway with its CRDs."],
        ["3. The way in",
         "   kubectl create namespace openstack",
         "   kubectl apply -f metallb.yaml -f gateway.yaml",
         f"   Names of public endpoints must lead to {vip}: each chart's",
         "   endpoints.*.host_fqdn_override.public.host, and the feature \"gateway\" for routes."],
        ["4. Charts, each once the one before runs (helm osh wait-for-pods openstack)",
         f"   export FEATURES=\"{features} gateway{' ovn' if backend == 'ovn' else ''}\"",
         "   export OVERRIDES_DIR=$PWD/overrides",
         "   Its documentation, \"Get values overrides\", fills that folder. Where glance has",
         "   its images is its own value `storage`.",
         *(f"   {line}" for line in _charts(facts, backend))],
        ["Not in here: passwords. Those of the charts are in their values.yaml and known to",
         "everybody: put your own (endpoints.*.auth) before the first helm command.",
         *_registry(facts)],
    ]  # fmt: skip
    return "\n\n".join("\n".join(lines) for lines in paragraphs) + "\n"


def _disks(facts: OvercloudFacts) -> Iterator[str]:
    """Disks are told by what does not change; the names of devices do."""
    storage = facts.of("storage")
    if not storage:
        yield "   No node has the role storage: values/nova.yaml and libvirt.yaml go without Ceph."
        return
    yield "   Disks that were asked for on the nodes with the label ceph-osd:"
    for node in storage:
        for disk in node.disks:
            known = f"wwn {disk.wwn}" if disk.wwn else f"serial {disk.serial}"
            yield f"     {node.name}: {disk.role}, {known}"
    yield "   With helm upgrade --install ceph-adapter-rook openstack-helm/ceph-adapter-rook \\"
    yield "     --namespace openstack"
    yield "   the charts find that Ceph."


def _charts(facts: OvercloudFacts, backend: str) -> Iterator[str]:
    first = ["rabbitmq", "mariadb", "memcached", "keystone"]
    first += [name for name in ("heat", "barbican") if name in facts.services]
    first += ["glance", *(["cinder"] if "cinder" in facts.services else [])]
    kit = [name for name in OWN if name != "ovn" or backend == "ovn"]
    last = ["horizon"] if "horizon" in facts.services else []
    values = {"nova", "neutron", "libvirt", "ovn"}
    for chart in (*first, *kit, *last):
        yield f"helm upgrade --install {chart} openstack-helm/{chart} --namespace openstack \\"
        yield f"  $(helm osh get-values-overrides -p $OVERRIDES_DIR -c {chart} $FEATURES)" + (
            f" \\\n     --values values/{chart}.yaml" if chart in values else ""
        )
    yield "libvirt, nova and neutron wait for each other: wait after neutron, not between them."


def _registry(facts: OvercloudFacts) -> Iterator[str]:
    if facts.registry:
        yield f"Images come from {facts.registry} where the cluster's nodes mirror it, or where"
        yield "images.tags.* of each chart say so: these values leave them as they are."
