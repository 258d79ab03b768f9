"""A cluster as people ask for it. Only what the document itself can tell is checked here; a kind,
the networks and the bundle have their say in clusters.py.
"""

from abc import abstractmethod
from ipaddress import ip_network
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from provisioning.ip_text import Net, a_net, domain
from provisioning.models import ClaimSpec
from provisioning.names import ImageRef, Name, NewHostLabel
from provisioning.network_doc import Strict

MANY_CONTROL, MANY_WORKERS = 7, 500
"""etcd's own advice is seven members at most; beyond that each write waits for more of them."""
LONGEST_NAME = 40
"""A member is NAME-control-NUMBER within a host label."""

Cidr = Annotated[str, AfterValidator(lambda text: str(a_net(text)))]
Version = Annotated[str, StringConstraints(pattern=r"^(\d{1,3}\.\d{1,3}\.\d{1,3})?$")]
Registry = Annotated[
    str, StringConstraints(pattern=r"^((https?://)?[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?/?)?$")
]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9./-]{0,61}[a-z0-9])?$")]
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")
]
"""Kubernetes, "Labels and Selectors": at most 63 signs, a letter or digit at each end; or empty."""
Taint = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([a-z0-9./-]{0,61}[a-z0-9])?(=[A-Za-z0-9._-]{0,63})?"
        r":(NoSchedule|PreferNoSchedule|NoExecute)$"
    ),
]


SCALED_KINDS = frozenset({"kubeadm"})
"""Whose kubelets say seed://NODE-UUID: by it an autoscaler knows which node is which."""


class Autoscale(Strict):
    """How many workers Cluster Autoscaler leaves at least, and makes at most."""

    min: Annotated[int, Field(ge=0, strict=True)]
    max: Annotated[int, Field(ge=1, le=MANY_WORKERS, strict=True)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


class Group(Strict):
    """Nodes of one role, chosen as a claim of `count` chooses them; fields as in ClaimSpec.

    node_labels, node_taints: of the cluster's nodes; `labels` are Seed's own, to choose by.
    autoscale: of workers.
    """

    count: Annotated[int, Field(ge=0, strict=True)]
    image: ImageRef | Literal[""] = ""
    resource_class: Name = "baremetal"
    traits: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default={})
    racks: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    cpus: Annotated[int, Field(ge=0, le=2**20, strict=True)] = 0
    memory_gib: Annotated[int, Field(ge=0, le=2**20, strict=True)] = 0
    disk_gib: Annotated[int, Field(ge=0, le=2**24, strict=True)] = 0
    spread: str = ""
    pack: str = ""
    root_device: dict[str, Any] = Field(default={})
    layout: str = ""
    disks: tuple[dict[str, Any], ...] = ()
    root_raid: Annotated[int, Field(ge=0, le=1, strict=True)] = 0
    kernel_args: tuple[str, ...] = ()
    node_labels: dict[LabelKey, LabelValue] = Field(default={}, max_length=32)
    node_taints: Annotated[tuple[Taint, ...], Field(max_length=16)] = ()
    autoscale: Autoscale | None = None

    def wish(self, name: str, image: str, ssh_keys: tuple[str, ...]) -> ClaimSpec:
        """The claim that would have these nodes, all at once; validated as a claim is."""
        ours = {"node_labels", "node_taints", "autoscale", "image", "count"}
        own = self.model_dump(exclude=ours)
        told = own | {"name": name, "image": self.image or image, "ssh_keys": list(ssh_keys)}
        return ClaimSpec.model_validate(told | {"count": max(self.count, 1)})


class Api(Strict):
    """network: whose addresses members talk by, and in which the VIP is. vip: a name among its
    VIPs; empty: one is taken and named as the cluster is."""

    network: Name
    vip: str = ""
    port: Annotated[int, Field(ge=1, le=65535, strict=True)] = 6443


class Spec(Strict):
    """What clusters and overclouds have in common. kind: what makes one of its nodes.

    version: of what is installed; empty: the newest that the bundle, or the image, has. options: of
    the kind. registry: HOST[:PORT] that nodes ask for images first. bundle: NAME, or NAME:VERSION,
    of `seed bundle list`.
    """

    name: NewHostLabel
    kind: Name
    version: str = ""
    image: ImageRef
    ssh_keys: tuple[str, ...] = ()
    control: Group
    registry: Registry = ""
    bundle: ImageRef | Literal[""] = ""
    addons: tuple[Name, ...] = Field(default=(), max_length=16)
    options: dict[str, Any] = Field(default={}, max_length=32)

    @property
    @abstractmethod
    def groups(self) -> dict[str, tuple[str, Group]]:
        """Role -> (its group's field, that group)."""

    @property
    @abstractmethod
    def api_network(self) -> str:
        """Where members talk to each other, and the VIP is."""

    @property
    @abstractmethod
    def vip(self) -> tuple[str, str]:
        """The field that names it, and the name; empty: one is taken."""

    @property
    @abstractmethod
    def port(self) -> int:
        """Where its API answers at the VIP."""

    @abstractmethod
    def wants(self, role: str) -> list[tuple[str, str]]:
        """(field, network) of those that nodes of this role must be in, with an address."""

    def must_have(self, role: str) -> list[tuple[str, str]]:
        """(field, network) of those that they must be in, whether they have an address or not."""
        return self.wants(role)

    @model_validator(mode="after")
    def _has_a_quorum(self) -> Self:
        if len(self.name) > LONGEST_NAME:
            raise ValueError(f"name: at most {LONGEST_NAME} signs, its nodes are called after it")
        if not 1 <= self.control.count <= MANY_CONTROL:
            raise ValueError(f"control.count: 1 to {MANY_CONTROL}, and odd")
        few = self.control.count - 1
        if self.control.count % 2 == 0:
            raise ValueError(
                f"control.count: {few + 1} control planes bear no more failures than {few}; "
                f"say {few} or {few + 2}"
            )
        return self


class ClusterSpec(Spec):
    """pods, services: ranges of the cluster's own, seen by nobody else. registry: empty: Seed's
    own, where there is a bundle.
    """

    version: Version = ""
    api: Api
    workers: Group = Group(count=0)
    pods: Cidr = "10.244.0.0/16"
    services: Cidr = "10.96.0.0/16"
    dns_domain: Annotated[str, AfterValidator(domain)] = "cluster.local"

    @property
    def groups(self) -> dict[str, tuple[str, Group]]:
        return {"control": ("control", self.control), "worker": ("workers", self.workers)}

    @property
    def api_network(self) -> str:
        return self.api.network

    @property
    def vip(self) -> tuple[str, str]:
        return "api.vip", self.api.vip

    @property
    def port(self) -> int:
        return self.api.port

    def wants(self, role: str) -> list[tuple[str, str]]:
        return [("api.network", self.api.network)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.workers.count > MANY_WORKERS:
            raise ValueError(f"workers.count: at most {MANY_WORKERS}")
        pods, services = ip_network(self.pods), ip_network(self.services)
        if pods.version != services.version:
            raise ValueError(f"services: IPv{services.version}, and pods are IPv{pods.version}")
        if _first(pods) <= _last(services) and _first(services) <= _last(pods):
            raise ValueError(f"services: {self.services} overlaps pods {self.pods}")
        return self

    @model_validator(mode="after")
    def _only_workers_are_scaled(self) -> Self:
        if self.control.autoscale:
            raise ValueError("control.autoscale: only workers come and go by load")
        if self.workers.autoscale and (why := not_scaled(self.kind)):
            raise ValueError(f"workers.autoscale: {why}")
        return self


def not_scaled(kind: str) -> str:
    """Why Cluster Autoscaler cannot work on clusters of this kind; empty: it can."""
    can = ", ".join(sorted(SCALED_KINDS))
    return "" if kind in SCALED_KINDS else f"{kind} has no Cluster Autoscaler; these have: {can}"


def scaled_wrongly(spec: ClusterSpec) -> str:
    """Where a new cluster's workers are not within its own limits; empty: they are. Later they may
    be: people scale as they like, and an autoscaler goes on from there."""
    limits, count = spec.workers.autoscale, spec.workers.count
    if limits is None or limits.min <= count <= limits.max:
        return ""
    return f"workers.count: {count} is not within autoscale, {limits.min} to {limits.max}"


def _first(net: Net) -> int:
    return int(net.network_address)


def _last(net: Net) -> int:
    return int(net.broadcast_address)
