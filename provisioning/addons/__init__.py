"""Add-ons of a Kubernetes cluster: who makes its pods' network, storage, addresses of services. One
module, one PLUGIN.

An add-on is pure, as a kind is: it is given facts and its options, and answers with faults, files
and steps. What all of them need from each other and from the cluster's kind is chosen_addons.py's.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict

from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step
from provisioning.targets import PartSpec

Document = dict[str, Any]


class Options(BaseModel):
    """Of an add-on without any; others have fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Addresses of a network that an add-on gives to services: so many, or these ("first-last")."""

    network: str
    count: int = 0
    range: str = ""


class Addon:
    """What most do not have is empty here.

    manifest: its file among the bundle's manifests. images: last words of the names of images that
    it runs; each has an archive NAME_TAG.tar in the bundle. network: it makes the pods' network.
    """

    name: str
    manifest: str = ""
    images: tuple[str, ...] = ()
    network: bool = False
    options: type[BaseModel] = Options

    def faults(self, facts: ClusterFacts, options: Any) -> list[Fault]:  # noqa: ANN401
        """What it cannot do; `field` is as the spec has it: options.addons.NAME.FIELD."""
        return []

    def parts(
        self,
        facts: ClusterFacts,
        member: MemberFacts,
        options: Any,  # noqa: ANN401
        secrets: dict[str, str],
    ) -> list[PartSpec]:
        """This member's files. secrets: those that came with the wish, by name."""
        return []

    def early(self, facts: ClusterFacts, member: MemberFacts, options: Any) -> list[Step]:  # noqa: ANN401
        """Before all else."""
        return []

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Any) -> list[Step]:  # noqa: ANN401
        """Once it is a member. What is for the whole cluster, the one that leads does."""
        return []

    def objects(
        self,
        facts: ClusterFacts,
        member: MemberFacts,
        options: Any,  # noqa: ANN401
    ) -> dict[str, Document]:
        """Path in the API -> what is there for this member. Seed makes it once it has joined, and
        only once: what people change in it or take away stays so."""
        return {}

    def containerd(self) -> str:
        """More of containerd's configuration, for members that run pods: TOML, version 2."""
        return ""

    def wanted(self, options: Any) -> Wanted | None:  # noqa: ANN401
        """The addresses that Seed is to keep for it."""
        return None


def field(addon: str, *words: str) -> str:
    """As the caller wrote it."""
    return ".".join(("options.addons", addon, *words))


def runs_pods(facts: ClusterFacts, member: MemberFacts) -> bool:
    """Control planes do where there are no workers."""
    return member.role == "worker" or all(one.role == "control" for one in facts.members)


def pod_nodes(facts: ClusterFacts) -> int:
    """How many run pods, once nobody comes in another's place."""
    return facts.pod_nodes or sum(runs_pods(facts, member) for member in facts.members)


def lacks_secret(facts: ClusterFacts, addon: str, word: str, secret: str) -> list[Fault]:
    """word: the option that names it."""
    if secret in facts.given:
        return []
    says = f"no secret named {secret} came with the cluster"
    there = f"There are {', '.join(facts.given)}." if facts.given else "Give it in `secrets`."
    return [Fault(field(addon, word), says, there)]


def archives(facts: ClusterFacts, image: str) -> list[dict[str, Any]]:
    """Of the bundle's files, as bundle.json has them: those of this image, any tag. image: the last
    word of its name."""
    files = (one for one in facts.options.get("files", ()) if one["role"] == "image")
    return [one for one in files if _image(one["path"]) == image]


def _image(path: str) -> str:
    """NAME_TAG.tar -> NAME: a tag may have underscores, the names of add-ons' images have none."""
    return PurePosixPath(path).name.partition("_")[0]
