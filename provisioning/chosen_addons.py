"""The add-ons that a cluster has: whether they can be, and what they give to each member.

For kinds that are Kubernetes. `ClusterSpec.addons` names them, `options.addons.NAME` has the
options of each.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from provisioning import addons, plugins
from provisioning.addons import Addon, Document, Wanted, field
from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step
from provisioning.targets import PartSpec

BRIDGE: Final = "bridge"
GIVEN: Final = "given/"
"""Before the names of secrets that came with the wish, among a cluster's own."""
MANIFESTS: Final = "files/manifests/"

Chosen = list[tuple[Addon, Any]]
"""Add-ons with their options."""


@cache
def known() -> dict[str, Addon]:
    return plugins.load(addons)


def cni(facts: ClusterFacts) -> str:
    """Who makes the pods' network: an add-on, else what options.cni says, else the bridge."""
    named = next((name for name in facts.addons if _is_network(name)), "")
    return named or str(facts.options.get("cni", BRIDGE))


def faults(facts: ClusterFacts) -> list[Fault]:
    """What is wrong with them, each by its field. Once the kind's own options are right."""
    found = [*_about_names(facts), *_about_networks(facts)]
    for addon, options in _chosen(facts.addons, facts.options, found):
        found += _about_bundle(facts, addon)
        found += addon.faults(facts, options)
    return [*found, *_about_defaults(facts)]


def wanted(names: Sequence[str], options: dict[str, Any]) -> dict[str, Wanted]:
    """Add-on -> the addresses that are to be kept for it. What is wrong is passed over: `faults`
    tells it."""
    found = ((a.name, a.wanted(own)) for a, own in _chosen(names, options, []))
    return {name: one for name, one in found if one}


def parts(facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]) -> list[PartSpec]:
    """secrets: all of the cluster's; an add-on sees those that people gave."""
    given = {n.removeprefix(GIVEN): told for n, told in secrets.items() if n.startswith(GIVEN)}
    chosen = _chosen(facts.addons, facts.options, [])
    return [one for addon, own in chosen for one in addon.parts(facts, member, own, given)]


def early(facts: ClusterFacts, member: MemberFacts) -> list[Step]:
    """What is looked at before anything is installed."""
    chosen = _chosen(facts.addons, facts.options, [])
    return [one for addon, own in chosen for one in addon.early(facts, member, own)]


def steps(facts: ClusterFacts, member: MemberFacts) -> list[Step]:
    """Once it is a member; the pods' network first: without it no pod runs."""
    chosen = _chosen(facts.addons, facts.options, [])
    ordered = sorted(chosen, key=lambda one: not one[0].network)
    return [one for addon, own in ordered for one in addon.steps(facts, member, own)]


def objects(facts: ClusterFacts, member: MemberFacts) -> dict[str, Document]:
    """Path in the Kubernetes API -> what is there for this member, once it has joined."""
    chosen = _chosen(facts.addons, facts.options, [])
    return {p: one for addon, own in chosen for p, one in addon.objects(facts, member, own).items()}


def manifests(facts: ClusterFacts) -> list[str]:
    """Paths in the bundle of those that the member that leads applies."""
    named = (known()[name].manifest for name in facts.addons)
    return [f"{MANIFESTS}{name}" for name in named if name]


def containerd(facts: ClusterFacts, member: MemberFacts) -> str:
    """More of its configuration."""
    if not addons.runs_pods(facts, member):
        return ""
    return "".join(known()[name].containerd() for name in facts.addons)


# --- faults -------------------------------------------------------------------------------------


def _is_network(name: str) -> bool:
    return name in known() and known()[name].network


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """Of all add-ons; empty: what stands there is none."""
    told = options.get("addons", {})
    return told if isinstance(told, dict) else {}


def _chosen(names: Sequence[str], options: dict[str, Any], found: list[Fault]) -> Chosen:
    """Those that can be asked; what is wrong with the others' options is added to `found`."""
    chosen: Chosen = []
    for name in dict.fromkeys(names):
        if name not in known():
            continue
        addon = known()[name]
        try:
            chosen.append((addon, addon.options.model_validate(_told(options).get(name, {}))))
        except ValidationError as problem:
            found += _wrong(addon, problem)
    return chosen


def _wrong(addon: Addon, problem: ValidationError) -> Iterator[Fault]:
    options = ", ".join(addon.options.model_fields) or "no options"
    for error in problem.errors(include_url=False, include_input=False):
        says = error["msg"].removeprefix("Value error, ")
        where = field(addon.name, *map(str, error["loc"]))
        yield Fault(where, f"it is not as it must be: {says}", f"{addon.name} knows {options}.")


def _about_names(facts: ClusterFacts) -> Iterator[Fault]:
    there = f"Take of these: {', '.join(sorted(known()))}."
    for name, count in Counter(facts.addons).items():
        if name not in known():
            yield Fault("addons", f"there is no add-on {name}", there)
        elif count > 1:
            yield Fault("addons", f"{name} stands there {count} times", "Name it once.")
    told = facts.options.get("addons", {})
    if not isinstance(told, dict):
        yield Fault("options.addons", "it is no table of add-ons", "Write NAME: {OPTION: VALUE}.")
    for name in _told(facts.options):
        if name not in facts.addons:
            remedy = f"Name {name} in addons, or leave its options out."
            yield Fault(field(name), f"{name} is not among addons", remedy)


def _about_networks(facts: ClusterFacts) -> Iterator[Fault]:
    named = [name for name in dict.fromkeys(facts.addons) if _is_network(name)]
    if len(named) > 1:
        says = f"{' and '.join(named)} each make the pods' network, and a cluster has one"
        yield Fault("addons", says, f"Take one, such as {named[0]}.")
    if named and "cni" in facts.options:
        says = f"it says {facts.options['cni']}, and {named[0]} of addons makes the pods' network"
        yield Fault("options.cni", says, "Leave it out.")


def _about_bundle(facts: ClusterFacts, addon: Addon) -> Iterator[Fault]:
    """Without a bundle somebody puts the files there, and the step that wants one names it."""
    if not facts.bundle_url:
        return
    for what in _lacking(facts, addon):
        says = f"it has no {what}, which the add-on {addon.name} needs"
        yield Fault("bundle", says, "Put it there: `seed bundle make`; docs/addons.md lists them.")


def _lacking(facts: ClusterFacts, addon: Addon) -> Iterator[str]:
    """By the names and tags in the manifest where it was read, else by the names alone."""
    path = f"{MANIFESTS}{addon.manifest}"
    files = {str(one["path"]): one for one in facts.options.get("files", ())}
    if addon.manifest and path not in files:
        yield path
    images = files.get(path, {}).get("images")
    if images is None:
        for name in addon.images:
            if not addons.archives(facts, name):
                yield f"archive of the image {name} (files/images/{name}_TAG.tar)"
        return
    sources = {one.get("source") for one in files.values()}
    for image in images:
        archive = f"files/images/{image.rpartition('/')[2].replace(':', '_')}.tar"
        if f"oci://{image}" not in sources and archive not in files:
            yield f"archive of the image {image} ({archive}), which {path} names"


def _about_defaults(facts: ClusterFacts) -> Iterator[Fault]:
    """A volume that names no class has the newest of several default ones: nobody means that."""
    chosen = _chosen(facts.addons, facts.options, [])
    named = [addon.name for addon, own in chosen if getattr(own, "default", False)]
    classes = Counter(c for _, own in chosen if (c := getattr(own, "storage_class", "")))
    for name in named[1:]:
        says = f"{named[0]} has the default StorageClass already"
        yield Fault(field(name, "default"), says, "Leave one of both out.")
    for addon, own in chosen:
        if classes[getattr(own, "storage_class", "")] > 1:
            says = f"another add-on has a StorageClass {own.storage_class}, too"
            yield Fault(field(addon.name, "storage_class"), says, "Give each a name of its own.")
