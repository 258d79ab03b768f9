"""TripleO's baremetal_deployment.yaml as the beginning of an overcloud of Seed's: for moving away.

A list of roles: openstack-archive/tripleo-ansible, module_utils/baremetal_deploy.py at f7088db
(its JSON schema, and what `expand` does), modules/tripleo_baremetal_expand_roles.py at 16292d3;
names of roles: openstack-archive/tripleo-heat-templates, roles/. What the file does not say, and
what of it Seed has no counterpart for, is said in sentences, each with what a person can do.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from provisioning.documents import document
from provisioning.errors import Invalid
from provisioning.labels import VALUE
from provisioning.lenient import text as word
from provisioning.names import NAME
from provisioning.tripleo_words import (
    FILE,
    GROUPS,
    LEFT,
    LEFT_OF_ROLE,
    ON_CONTROL,
    REMEDY,
    USES,
    WITH_OSDS,
    count_of,
    is_no,
    listing,
    table,
)

MOST_ROLES, MOST_SENTENCES = 100, 200


@dataclass(slots=True)
class _Begun:
    """groups: as far as they are known. of: group -> the roles that it is of."""

    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    of: dict[str, list[str]] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    left: dict[str, None] = field(default_factory=dict)

    def tell(self, says: str, remedy: str) -> None:
        self.left.setdefault(f"{says}. {remedy}")


def overcloud(text: str, name: str = "overcloud") -> tuple[dict[str, Any], list[str]]:
    """Its spec, and sentences about what is not in it. name: TripleO's stack, which the file does
    not say. Raises Invalid, naming the place."""
    begun = _Begun()
    for role in _roles(text):
        _take(begun, role)
    if "control" not in begun.groups:
        begun.tell(
            "No role became control, and an overcloud needs it",
            "Add control: {count: 1} with nodes for it.",
        )
    begun.tell(
        "TripleO installed OpenStack itself, which is retired",
        "installer is kolla-ansible now: change it, and say release and image, as you like.",
    )
    begun.tell(
        "Virtual addresses are in another file of TripleO's",
        "Put them (`seed network vip NETWORK NAME ADDRESS`) and name them in vips.internal and "
        "vips.external.",
    )
    told = {
        "name": name, "installer": "kolla-ansible", "release": "", "image": "",
        "networks": begun.networks, "vips": {}, **begun.groups, "services": [], "options": {},
    }  # fmt: skip
    return told, _short([*begun.left])


def _short(sentences: list[str]) -> list[str]:
    more = len(sentences) - MOST_SENTENCES
    if more <= 0:
        return sentences
    return [*sentences[:MOST_SENTENCES], f"{more} more. Take some roles out and import it again."]


# --- reading --------------------------------------------------------------------------------------


def _roles(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and role, each."""
    parts = document(FILE, text.encode(errors="surrogatepass")).parts
    roles = parts[0] if len(parts) == 1 else None
    if not isinstance(roles, list) or not roles or len(roles) > MOST_ROLES:
        raise Invalid(f"{FILE} is no list of 1 to {MOST_ROLES} roles", REMEDY)
    for number, role in enumerate(roles):
        where = f"[{number}]"
        if not isinstance(role, dict) or not re.fullmatch(NAME, word(role.get("name"))):
            raise Invalid(f"{FILE}: {where} is no role with a name", REMEDY)
        yield f"{where} {word(role['name'])}", role


# --- roles ----------------------------------------------------------------------------------------


def _take(begun: _Begun, place_and_role: tuple[str, dict[str, Any]]) -> None:
    where, role = place_and_role
    name = word(role["name"])
    count = count_of(f"{where}.count", role.get("count"))
    defaults = table(f"{where}.defaults", role.get("defaults"))
    instances = [
        table(f"{where}.instances[{n}]", one)
        for n, one in enumerate(listing(f"{where}.instances", role.get("instances")))
    ]
    group = _group_of(begun, name, count)
    if not group:
        return
    for key in (key for key in role if key not in ("name", "count", "defaults", "instances")):
        known = LEFT_OF_ROLE.get(word(key), "Compare it with TripleO's documentation.")
        begun.tell(f"{name}: {word(key) or '?'} is left out", known)
    told = _Told(begun, name, group)
    gone = [one for one in instances if is_no(one.get("provisioned"))]
    if gone:
        begun.tell(
            f"{name}: {len(gone)} of its instances were to be given back, and are left out",
            "Nothing is to be done: Seed takes only what it is asked for.",
        )
    there = [one for one in instances if not is_no(one.get("provisioned"))]
    wanted = {"count": count} | told.nodes(count, there)
    for key, value in _common(told, defaults, there, count).items():
        wanted |= told.of(key, value)
    _join(begun, told, wanted)


def _group_of(begun: _Begun, role: str, count: int) -> str:
    """Empty: none."""
    nodes = f"{count} node{'' if count == 1 else 's'}"
    if role in ON_CONTROL:
        begun.tell(
            f"{role} ({nodes}) is left out: what it ran is on Seed's control nodes",
            "Raise control.count, to an odd number, where one needs the room.",
        )
        return ""
    group = next((group for begins, group in GROUPS if role.startswith(begins)), "")
    if not group:
        begun.tell(
            f"{role} ({nodes}) is left out: it is no role that Seed knows",
            "Add its nodes to control, network, compute, storage or monitoring.",
        )
    if group and WITH_OSDS.search(role):
        begun.tell(
            f"{role} has Ceph's disks too, and Seed's {group} has none",
            "Ask for them in disks: [{role: ceph-osd}], or give storage nodes of its own.",
        )
    return group


def _common(
    told: "_Told", defaults: dict[str, Any], instances: list[dict[str, Any]], count: int
) -> dict[str, Any]:
    """What holds for the whole group: its defaults, and what every one of its instances says."""
    common = dict(defaults)
    keys = {key: None for one in instances for key in one}
    for key in (key for key in keys if key not in ("name", "hostname", "provisioned")):
        values = [one[key] for one in instances if key in one]
        alike = all(value == values[0] for value in values)
        if alike and (len(values) >= count or values[0] == defaults.get(key)):
            common[key] = values[0]
        else:
            told.left(f"{key} of single instances", "Nodes of one group are alike: ask for two.")
    if any(one.get("hostname") not in (None, one.get("name")) for one in instances):
        told.left("hostname of single instances", LEFT["hostname"])
    return common


def _join(begun: _Begun, told: "_Told", wanted: dict[str, Any]) -> None:
    """A group may be of several roles: the first one's wishes hold for all its nodes."""
    there = begun.groups.setdefault(told.group, {})
    begun.of.setdefault(told.group, []).append(told.role)
    if not there:
        there.update(wanted)
        return
    first = begun.of[told.group][0]
    for key in ("resource_class", "traits", "labels"):
        if there.get(key) != wanted.get(key):
            begun.tell(
                f"{told.role} and {first} are one group, {told.group}, and their {key} differ",
                f"{first}'s hold: give all these nodes what {told.group}.{key} says.",
            )
    there["count"] += wanted["count"]
    if ("nodes" in there) != ("nodes" in wanted):
        there.pop("nodes", None)
        begun.tell(
            f"{told.role} and {first} are one group, and only one of them names its nodes",
            f"List all in {told.group}.nodes, or none.",
        )
    elif "nodes" in there:
        there["nodes"] = [*dict.fromkeys([*there["nodes"], *wanted["nodes"]])]


# --- properties -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    """What a role's defaults say, one property after the other."""

    begun: _Begun
    role: str
    group: str

    def left(self, what: str, remedy: str) -> None:
        self.begun.tell(f"{self.role}: {what} is left out", remedy)

    def nodes(self, count: int, instances: list[dict[str, Any]]) -> dict[str, Any]:
        """Seed takes nodes of this list and of no other, so it must be long enough."""
        names = [*dict.fromkeys(word(one.get("name")) for one in instances)]
        names = [name for name in names if name]
        if len(names) >= count:
            return {"nodes": names} if names else {}
        if names:
            said = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            remedy = f"List all {count} in {self.group}.nodes, or label them and ask for labels."
            self.left(f"the list of {len(names)} of its {count} nodes ({said})", remedy)
        return {}

    def of(self, key: str, value: object) -> dict[str, Any]:
        """Fields of the group."""
        hows: Mapping[str, Callable[[object], dict[str, Any]]] = {
            "resource_class": self.resource_class, "traits": self.traits, "profile": self.profile,
            "capabilities": self.capabilities, "image": self.image, "networks": self.networks,
            "nics": self.networks,
        }  # fmt: skip
        if key in hows:
            return hows[key](value)
        if key == "managed" and not is_no(value):
            return {}
        self.left(key, LEFT.get(key, "It is no property that TripleO's own schema knows."))
        return {}

    def resource_class(self, value: object) -> dict[str, Any]:
        if re.fullmatch(NAME, word(value)):
            return {"resource_class": word(value)}
        self.left("resource_class", "Letters, digits, '.', '_' and '-', a letter or digit first.")
        return {}

    def traits(self, value: object) -> dict[str, Any]:
        found = [word(one) for one in listing(f"{self.role}.traits", value)]
        return {"traits": [one for one in found if one]} if any(found) else {}

    def profile(self, value: object) -> dict[str, Any]:
        profile = word(value)
        if not profile or not re.fullmatch(VALUE, profile):
            self.left("profile", "A label's value has at most 63 signs.")
            return {}
        self.begun.tell(
            f"{self.role}: its profile became the label profile={profile}",
            f"Give it to the nodes: `seed node label NODE profile={profile}`.",
        )
        return {"labels": {"profile": profile}}

    def capabilities(self, value: object) -> dict[str, Any]:
        """Either {"a": "b"} or "a:b,c:d"."""
        if isinstance(value, str):
            value = dict(one.partition(":")[::2] for one in value.split(","))
        found: dict[str, Any] = {}
        for key, said in table(f"{self.role}.capabilities", value).items():
            if key == "profile":
                found |= self.profile(said)
                continue
            remedy = f"Label the nodes that have it, and ask for it in {self.group}.labels."
            self.left(f"capability {key}:{word(said)}", remedy)
        return found

    def image(self, value: object) -> dict[str, Any]:
        href = table(f"{self.role}.image", value).get("href")
        remedy = "Build one for your installer (`seed image build`) and name it in image."
        self.left(f"image {word(href) or '?'} of TripleO's", remedy)
        return {}

    def networks(self, value: object) -> dict[str, Any]:
        for number, one in enumerate(listing(f"{self.role}.networks", value)):
            told = table(f"{self.role}.networks[{number}]", one)
            self._network(word(told.get("network")))
            for key in (key for key in ("fixed_ip", "subnet", "port") if key in told):
                self.left(f"{key} of network {word(told.get('network')) or '?'}", LEFT[key])
        return {}

    def _network(self, name: str) -> None:
        plain = name.lower().replace("_", "")
        if use := USES.get(plain):
            self.begun.networks.setdefault(use, name)
            remedy = f"Make {name} of that range (`seed network put FILE`), or name another there."
            self.begun.tell(f"networks.{use} is {name}, of which only the name is known", remedy)
        elif plain == "ctlplane":
            remedy = "Nothing is to be done: Seed has a provisioning network of its own."
            self.begun.tell("Network ctlplane, by which TripleO booted nodes, is left out", remedy)
        elif name:
            remedy = "An overcloud of Seed's has api, tunnel, storage and external."
            self.begun.tell(f"Network {name} is left out", remedy)
