"""OpenStack's cloud controller, for load balancers of Octavia alone.

Nodes that Seed imaged are no servers of Nova. Its node controllers would look each of them up
there, find none, and take the node out of Kubernetes. So only its service controller runs; kubelets
are not told of a cloud (no --cloud-provider), and the provider IDs stay Seed's. Written for
cloud-provider-openstack of Kubernetes 1.34 to 1.36; its own manifests are not used.
"""

from typing import Annotated, Any, Final

from pydantic import StringConstraints

from provisioning import addons
from provisioning.addons import Addon, Document, _kubectl
from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step
from provisioning.kinds._kubeadm import CONTROL_PLANE
from provisioning.names import HostLabel
from provisioning.targets import PartSpec

NAME: Final = "openstack-cloud-controller-manager"
NAMESPACE: Final = "kube-system"
FOLDER: Final = "/etc/config"
IMAGE: Final = r"^([A-Za-z0-9][A-Za-z0-9._:/@-]{0,254})?$"
# Of cloud-controller-manager-roles.yaml, what the service controller does; nodes are only read.
RULES: Final = (
    ("coordination.k8s.io", "leases", "get create update"),
    ("", "events", "create patch update"),
    ("", "nodes", "get list watch"),
    ("", "services", "list patch update watch"),
    ("", "services/status", "patch"),
    ("", "configmaps", "get list watch"),
)


class Options(addons.Options):
    """cloud_conf_secret: name of the secret that is the whole cloud.conf. ca_secret: of one with
    certificates in PEM, which cloud.conf calls /etc/config/ca.crt.

    image: the controller's name; empty: as the bundle has it.
    """

    cloud_conf_secret: HostLabel
    ca_secret: HostLabel | None = None
    image: Annotated[str, StringConstraints(pattern=IMAGE)] = ""


class OpenStackCcm(Addon):
    name = "openstack-ccm"
    images = (NAME,)
    options = Options

    def faults(self, facts: ClusterFacts, options: Options) -> list[Fault]:
        found = []
        for word, secret in _secrets(options).items():
            found += addons.lacks_secret(facts, self.name, word, secret)
        if not _image(facts, options):
            says = f"it is not said what the image {NAME} is called"
            remedy = "Give HOST/PATH:TAG, or a bundle that has it: `seed bundle list`."
            found.append(Fault(addons.field(self.name, "image"), says, remedy))
        return found

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        if not member.leads:
            return []
        files = {"cloud.conf": secrets[options.cloud_conf_secret]}
        if options.ca_secret:
            files["ca.crt"] = secrets[options.ca_secret]
        return [
            _kubectl.part(
                _kubectl.path(self.name, "secret.yaml"),
                _kubectl.secret("cloud-config", NAMESPACE, files),
            ),
            _kubectl.part(
                _kubectl.path(self.name, "controller.yaml"),
                *_access(),
                _deployment(facts, _image(facts, options)),
            ),
        ]

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        if not member.leads:
            return []
        own = [_kubectl.path(self.name, name) for name in ("secret.yaml", "controller.yaml")]
        return [
            _kubectl.apply(facts, self.name, *own),
            *_kubectl.rolled_out(facts, self.name, NAMESPACE, f"deployment/{NAME}"),
        ]


def _secrets(options: Options) -> dict[str, str]:
    told = {"cloud_conf_secret": options.cloud_conf_secret, "ca_secret": options.ca_secret}
    return {word: name for word, name in told.items() if name}


def _image(facts: ClusterFacts, options: Options) -> str:
    """Its whole name; of the bundle's archive it is the source."""
    named = (str(one.get("source", "")) for one in addons.archives(facts, NAME))
    return options.image or next((n.removeprefix("oci://") for n in named if n), "")


def _meta(version: str, kind: str, name: str, *, everywhere: bool = False) -> Document:
    where = {} if everywhere else {"namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where}}


def _access() -> list[Document]:
    rbac, role = "rbac.authorization.k8s.io", f"seed:{NAME}"
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": verbs.split()}
        for group, resource, verbs in RULES
    ]
    subjects = [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]

    def bound(kind: str, of: str, name: str, *, everywhere: bool) -> Document:
        reference = {"apiGroup": rbac, "kind": of, "name": name}
        made = _meta(f"{rbac}/v1", kind, role, everywhere=everywhere)
        return {**made, "roleRef": reference, "subjects": subjects}

    return [
        _meta("v1", "ServiceAccount", NAME),
        {**_meta(f"{rbac}/v1", "ClusterRole", role, everywhere=True), "rules": rules},
        bound("ClusterRoleBinding", "ClusterRole", role, everywhere=True),
        bound("RoleBinding", "Role", "extension-apiserver-authentication-reader", everywhere=False),
    ]


def _deployment(facts: ClusterFacts, image: str) -> Document:
    labels = {"k8s-app": NAME}
    pod: dict[str, Any] = {
        "serviceAccountName": NAME,
        "hostNetwork": True,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {CONTROL_PLANE["key"]: ""},
        "tolerations": [{**CONTROL_PLANE, "operator": "Exists"}],
        "securityContext": {"runAsUser": 1001, "runAsNonRoot": True},
        "containers": [_container(facts, image)],
        "volumes": [{"name": "config", "secret": {"secretName": "cloud-config"}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {**_meta("apps/v1", "Deployment", NAME), "spec": spec}


def _container(facts: ClusterFacts, image: str) -> dict[str, Any]:
    """--cluster-name is in the name of each load balancer: two clusters of one name may be in one
    project of OpenStack."""
    return {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            f"/bin/{NAME}",
            "--v=1",
            "--cloud-provider=openstack",
            f"--cloud-config={FOLDER}/cloud.conf",
            f"--cluster-name={facts.name}-{facts.id[:8]}",
            "--controllers=service",
            "--bind-address=127.0.0.1",
        ],
        "resources": {"requests": {"cpu": "200m"}},
        "volumeMounts": [{"name": "config", "mountPath": FOLDER, "readOnly": True}],
    }


PLUGIN = OpenStackCcm()
