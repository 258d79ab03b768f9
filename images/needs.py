"""What goes into a bundle: which files each kind needs, and whether a file is what it is called."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from images.containers import Found, look
from provisioning.bundle import Architecture, Bundle, BundleFile, Mode, Role, unreadable
from provisioning.errors import Invalid

_YAML: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MACHINES: Final = {"amd64": 62, "arm64": 183}  # ELF's e_machine


@dataclass(frozen=True, slots=True)
class Item:
    """One file to come; `hand`: its name for `--from`. sha256: "" if only its maker knows it.
    digests: URL of its maker's list of them; "": beside the file, SOURCE.sha256."""

    path: str
    role: Role
    source: str
    mode: Mode = "0644"
    license: str = "Apache-2.0"
    sha256: str = ""
    digests: str = ""

    @property
    def hand(self) -> str:
        return self.path.removeprefix("files/")


@dataclass(frozen=True, slots=True)
class Kubeadm:
    """What `kubeadm config images list` names beside Kubernetes' own, and the tools' releases."""

    etcd: str
    coredns: str
    pause: str
    crictl: str
    cni: str


KUBEADM: Final = {
    # Images seen with kubeadm 1.36.2; crictl and the CNI plugins are their releases of that time.
    "1.36.2": Kubeadm("3.6.8-0", "v1.14.2", "3.10.2", crictl="v1.36.0", cni="v1.9.1"),
}
VERSIONS: Final = re.compile(r"1\.(34|35|36)\.(0|[1-9][0-9]*)")
"""What the kind kubeadm installs; of those that are not above, by hand alone."""
MAKERS: Final = ("kubernetes", "cri-tools", "cni-plugins", "k3s")
"""Whose programs are downloaded. From where is a site's matter: `downloads` of `[images]` in
seed.toml names what each one's paths begin with. Paths as the makers have them: kubernetes.io,
"Install and Set Up kubectl on Linux"; README of cri-tools; releases of the CNI plugins and k3s."""
_PROGRAMS: Final = ("kubeadm", "kubectl", "kubelet")
_OWN: Final = ("apiserver", "controller-manager", "proxy", "scheduler")


def image_file(image: str) -> str:
    """`--from`'s name of an image's archive: coredns/coredns:v1.14.2 -> coredns_v1.14.2.tar."""
    return f"{image.rpartition('/')[2].replace(':', '_')}.tar"


def _kubeadm(wanted: "Wanted") -> list[Item]:
    version, arch = wanted.version, wanted.architecture
    if (told := KUBEADM.get(version) or _put_there(version, wanted.there)) is None:
        raise Invalid(
            f"version: it is not written down what kubeadm {version} needs, only of "
            f"{', '.join(KUBEADM)}",
            f"seed bundle make {wanted.name} --version {max(KUBEADM)}",
        )
    own = f"{wanted.download('kubernetes')}/v{version}/bin/linux/{arch}"
    tools, plugins = wanted.download("cri-tools"), wanted.download("cni-plugins")
    crictl = f"{tools}/{told.crictl}/crictl-{told.crictl}-linux-{arch}.tar.gz"
    cni = f"{plugins}/{told.cni}/cni-plugins-linux-{arch}-{told.cni}.tgz"
    beside = {"cni-plugins.tgz": cni, "crictl.tar.gz": crictl}
    if version not in KUBEADM:  # nothing on a node needs them, and nobody says which they are
        beside = {name: "" for name in beside if name in (wanted.there or ())}
    images = [f"kube-{name}:v{version}" for name in _OWN]
    images += [f"coredns/coredns:{told.coredns}", f"etcd:{told.etcd}", f"pause:{told.pause}"]
    return [
        *(Item(f"files/{name}", "binary", source) for name, source in beside.items()),
        *(Item(f"files/{name}", "binary", f"{own}/{name}", "0755") for name in _PROGRAMS),
        *(
            Item(f"files/images/{image_file(image)}", "image", f"oci://{wanted.registry}/{image}")
            for image in images
        ),
    ]


def _put_there(version: str, found: Collection[str] | None) -> Kubeadm | None:
    """Of a version that is not written down: tags are those of the archives that somebody chose."""
    if found is None or not VERSIONS.fullmatch(version):
        return None

    def tag(image: str) -> str:
        right = rf"images/{image}_([A-Za-z0-9][A-Za-z0-9._+-]*)\.tar"
        tags = [match[1] for name in sorted(found) if (match := re.fullmatch(right, name))]
        return tags[0] if tags else "TAG"

    return Kubeadm(tag("etcd"), tag("coredns"), tag("pause"), crictl="", cni="")


def airgap(architecture: Architecture) -> str:
    """k3s' archive of all its images, as its releases call the one that is not packed."""
    return f"k3s-airgap-images-{architecture}.tar"


def _k3s(wanted: "Wanted") -> list[Item]:
    """docs.k3s.io, "Air-Gap Install". Which images a release has is its archive's own matter."""
    version, arch = wanted.version, wanted.architecture
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Invalid(
            f"version: a k3s is called by the Kubernetes in it, and {version} is none",
            f"seed bundle make {wanted.name} --kind k3s --version 1.36.2",
        )
    release = f"{wanted.download('k3s')}/v{version}%2Bk3s1"
    program = "k3s" if arch == "amd64" else f"k3s-{arch}"
    images, digests = airgap(arch), f"{release}/sha256sum-{arch}.txt"
    return [
        Item(f"files/images/{images}", "image", f"{release}/{images}", digests=digests),
        Item("files/k3s", "binary", f"{release}/{program}", "0755", digests=digests),
    ]


def _swarm(wanted: "Wanted") -> list[Item]:
    """Docker is in the nodes' image: services' images alone, as many as somebody puts there."""
    return []


KINDS: Final[dict[str, Callable[["Wanted"], list[Item]]]] = {
    "kubeadm": _kubeadm, "k3s": _k3s, "swarm": _swarm,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """registry: HOST[:PORT][/PATH] of the images, and so their names; needed to fetch them. mirror:
    where they are fetched from instead of its HOST. downloads: of programs, by maker.
    lock: nothing but what it names is taken, each file with its digest. there: what somebody put
    into a folder, names as Item.hand; None: all is fetched."""

    name: str
    version: str
    kind: str = "kubeadm"
    architecture: Architecture = "amd64"
    registry: str = ""
    mirror: str = ""
    downloads: Mapping[str, str] = field(default_factory=dict)
    lock: Bundle | None = None
    there: Collection[str] | None = None
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def again(self) -> str:
        """The verb that makes it, as far as it is always the same."""
        kind = "" if self.kind == "kubeadm" else f" --kind {self.kind}"
        return f"seed bundle make {self.name}{kind} --version {self.version}"

    def download(self, maker: str) -> str:
        """What the paths of this maker's releases begin with; its name, where nobody said."""
        return self.downloads.get(maker, maker).rstrip("/")

    def mirrored(self, source: str) -> str:
        """Where an image is fetched; what is none stays where it is."""
        if not self.mirror or not source.startswith("oci://"):
            return source
        return f"oci://{self.mirror}/{source.removeprefix('oci://').partition('/')[2]}"

    def check(self) -> None:
        """Raises Invalid for a name or a version that is none."""
        self.bundle([BundleFile(path="files/any", role="binary", sha256="0" * 64, size=0)])

    def items(self) -> list[Item]:
        """Sorted by path. Raises Invalid."""
        if self.kind not in KINDS:
            known = ", ".join(KINDS)
            raise Invalid(f"kind: {self.kind!r} is none of {known}", "Leave out --kind.")
        if self.lock is None:
            return sorted(KINDS[self.kind](self), key=lambda item: item.path)
        for name in ("kind", "version", "architecture"):
            if getattr(self, name) != (locked := getattr(self.lock, name)):
                raise Invalid(
                    f"{name}: the lock is of {locked}, not of {getattr(self, name)}",
                    f"seed bundle make {self.name} --{name} {locked} --lock FILE",
                )
        same = {"path", "role", "source", "mode", "license", "sha256"}
        return [Item(**file.model_dump(include=same)) for file in self.lock.files]

    def bundle(self, files: list[BundleFile]) -> Bundle:
        """Raises Invalid."""
        if not files:
            raise Invalid(
                f"a bundle for {self.kind} is what is put there", f"{self.again} --from DIR"
            )
        try:
            return Bundle(
                name=self.name,
                kind=self.kind,
                version=self.version,
                architecture=self.architecture,
                made_at=self.made_at,
                files=tuple(sorted(files, key=lambda file: file.path)),
            )
        except ValidationError as error:
            raise unreadable("the bundle asked for", error) from error


# --- is it that? ---------------------------------------------------------------------------------


def described(path: Path, item: Item) -> BundleFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    told = {"path": item.path, "role": item.role, "mode": item.mode, "license": item.license}
    size = path.stat().st_size
    return BundleFile.model_validate(
        {**told, "source": item.source, "sha256": sha256, "size": size}
    )


def check_locked(made: BundleFile, item: Item) -> None:
    if item.sha256 and made.sha256 != item.sha256:
        raise Invalid(
            f"{item.hand} is not the one in the lock: its SHA-256 is {made.sha256}, not "
            f"{item.sha256}",
            "Compare it with its maker's list.",
        )


def judge(path: Path, item: Item, architecture: Architecture) -> str:
    """Raises Invalid for a file that is not what its name says. Of an image the name that it has in
    its archive, as a source; of several, or else, "": nobody knows where it is from."""
    if item.role == "image":
        return _judge_image(path, item, architecture)
    with path.open("rb") as file:
        head = file.read(20)
    if item.role == "manifest":
        _judge_manifest(path, item)
    elif item.mode == "0755":
        right = head[:4] == b"\x7fELF" and head[18:20] == bytes([_MACHINES[architecture], 0])
        if not right:
            raise Invalid(f"{item.hand} is no Linux program for {architecture}", f"file {path}")
    elif head[:2] != b"\x1f\x8b":
        raise Invalid(f"{item.hand} is not in gzip, as its maker publishes it", f"file {path}")
    return ""


def _judge_image(path: Path, item: Item, architecture: Architecture) -> str:
    try:
        found = look(path)
    except Invalid as error:
        raise Invalid(f"{item.hand} {error}", error.remedy) from error
    if Path(item.path).name == airgap(architecture):
        _judge_airgap(found, item, architecture)
        return ""
    right = [name for name in sorted(found.names) if image_file(name) == Path(item.path).name]
    if not right:
        names = ", ".join(sorted(found.names)) or "an image without a name"
        raise Invalid(
            f"{item.hand} holds {names[:300]!a}, and its file name says another",
            "Its file is called NAME_TAG.tar, by the last word of its name.",
        )
    if architecture not in found.architectures:
        there = ", ".join(sorted(found.architectures)) or "none that is named"
        raise Invalid(
            f"{item.hand} is for {there[:100]!a}, not for {architecture}",
            f"docker pull --platform linux/{architecture} {right[0]}",
        )
    return f"oci://{right[0]}"


def _judge_airgap(found: Found, item: Item, architecture: Architecture) -> None:
    get_again = "Get it again from k3s' release; its maker's list has its SHA-256."
    if not any("/mirrored-pause:" in name for name in found.names):  # k3s' --pause-image
        raise Invalid(f"{item.hand} has no image mirrored-pause: it is not k3s' archive", get_again)
    if others := sorted(found.architectures - {architecture}):
        raise Invalid(f"{item.hand} has images for {', '.join(others)[:100]!a}", get_again)


def _judge_manifest(path: Path, item: Item) -> None:
    try:
        with path.open("rb") as file:
            found = [one for one in yaml.load_all(file, _YAML) if one is not None]
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            f"{item.hand} is no YAML", f"kubectl apply --dry-run=client -f {path}"
        ) from error
    if not found or not all(isinstance(o, dict) and {"apiVersion", "kind"} <= {*o} for o in found):
        raise Invalid(
            f"{item.hand} is no Kubernetes manifest: each of its documents has an apiVersion and "
            "a kind",
            f"kubectl apply --dry-run=client -f {path}",
        )
