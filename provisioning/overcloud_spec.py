"""An overcloud as people ask for it: an OpenStack on claimed nodes, by an installer.

Only what the document itself can tell is checked here; the installer, the networks and the nodes
have their say in clusters.py and installers/.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AliasChoices, Field, StringConstraints, model_validator

from provisioning.cluster_rows import Cluster
from provisioning.cluster_spec import MANY_WORKERS, ClusterSpec, Group, Spec
from provisioning.errors import Conflict
from provisioning.installers import ROLES, USES, Role
from provisioning.names import HostLabel, Name
from provisioning.network_doc import Strict
from provisioning.states import Noun

NONE: Final = Group(count=0)
Release = Annotated[str, StringConstraints(pattern=r"^([0-9]{4}\.[12])?$")]
"""As OpenStack names its releases since 2023.1."""
Service = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Networks(Strict):
    """By name, of `seed network list`. tunnel, storage: empty: api is that as well. external: of
    the provider's side, where network nodes have no address of their own; empty: there is none."""

    api: Name
    tunnel: Name | Literal[""] = ""
    storage: Name | Literal[""] = ""
    external: Name | Literal[""] = ""


class Vips(Strict):
    """Names among the VIPs of networks.api. internal: empty: one is taken. external: where people
    outside reach it; empty: the same address."""

    internal: HostLabel | Literal[""] = ""
    external: HostLabel | Literal[""] = ""


class OvercloudSpec(Spec):
    """installer: of `seed overcloud installers`. release: of OpenStack; empty: the installer's.

    control is all that has no group of its own, but storage. services: beyond the installer's
    minimum.
    """

    kind: Name = Field(validation_alias=AliasChoices("installer", "kind"))
    version: Release = Field(default="", validation_alias=AliasChoices("release", "version"))
    networks: Networks
    vips: Vips = Vips()
    network: Group = NONE
    compute: Group = NONE
    storage: Group = NONE
    monitoring: Group = NONE
    services: Annotated[tuple[Service, ...], Field(max_length=64)] = ()

    @property
    def groups(self) -> dict[str, tuple[str, Group]]:
        return {
            "control": ("control", self.control),
            "network": ("network", self.network),
            "compute": ("compute", self.compute),
            "storage": ("storage", self.storage),
            "monitoring": ("monitoring", self.monitoring),
        }

    @property
    def api_network(self) -> str:
        return self.networks.api

    @property
    def vip(self) -> tuple[str, str]:
        return "vips.internal", self.vips.internal

    @property
    def port(self) -> int:
        """Keystone's public one, which no installer here moves."""
        return 5000

    def roles_of(self, group: str) -> tuple[Role, ...]:
        """What nodes of this group are: the group's first."""
        shared = ("network", "compute", "monitoring") if group == "control" else ()
        more = [role for role in shared if not self.groups[role][1].count]
        return tuple(role for role in ROLES if role == group or role in more)

    def of_use(self, use: str) -> str:
        """The network that is used so; empty: there is none."""
        told: str = getattr(self.networks, use)
        return told or (self.networks.api if use in ("tunnel", "storage") else "")

    def wants(self, role: str) -> list[tuple[str, str]]:
        roles = self.roles_of(role)
        uses = ["api"]
        if "network" in roles or "compute" in roles:
            uses.append("tunnel")
        if "storage" in roles or (self.storage.count and "compute" in roles):
            uses.append("storage")
        return [(f"networks.{use}", self.of_use(use)) for use in uses]

    def must_have(self, role: str) -> list[tuple[str, str]]:
        outside = self.of_use("external") if "network" in self.roles_of(role) else ""
        return [*self.wants(role), *([("networks.external", outside)] if outside else [])]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for role, (field, group) in self.groups.items():
            if group.count > MANY_WORKERS:
                raise ValueError(f"{field}.count: at most {MANY_WORKERS}")
            for what in ("autoscale", "node_labels", "node_taints"):
                if getattr(group, what):
                    raise ValueError(f"{field}.{what}: that is of Kubernetes clusters, not {role}")
        if self.bundle or self.addons:
            raise ValueError("bundle: that is of Kubernetes clusters; leave it out")
        names = [name for use in USES if (name := getattr(self.networks, use))]
        if "external" in self.networks.model_fields_set and names.count(self.networks.external) > 1:
            raise ValueError(
                "networks.external: it is another one than those that nodes talk to each other by"
            )
        return self


def keeps_roles(old: Spec, new: Spec) -> None:
    """Nodes that are there already do not become something else. Raises Conflict."""
    if not isinstance(old, OvercloudSpec) or not isinstance(new, OvercloudSpec):
        return
    for group in old.groups:
        was, shall = old.groups[group][1].count, new.groups[group][1].count
        if was and shall and old.roles_of(group) != new.roles_of(group):
            gone = sorted({*old.roles_of(group)} ^ {*new.roles_of(group)})[0]
            raise Conflict(
                f"{gone}.count: {group} nodes are {gone} nodes where there are no others, and that"
                " is not changed on nodes that run",
                "Keep 1 of it where there is one, and none where there is none; else make another"
                " overcloud: `seed overcloud create FILE`.",
            )


@lru_cache(maxsize=256)
def _known(noun: str, text: str) -> Spec:
    model = OvercloudSpec if noun == Noun.OVERCLOUD else ClusterSpec
    return model.model_validate_json(text)


def spec_of(row: Cluster, spec: Mapping[str, Any] | None = None) -> Spec:
    """A row's, or another one for it; the same one is checked once."""
    return _known(row.noun, json.dumps(row.spec if spec is None else spec))
