"""What each member of a kubeadm cluster does, in order, and where its files are."""

from collections.abc import Iterable, Iterator
from shlex import quote
from typing import Final

from provisioning import chosen_addons
from provisioning.kinds import ClusterFacts, MemberFacts, Step, _bridge, _kube_vip, _vip
from provisioning.kinds._kubeadm import PROGRAMS, SOCKET, BundleFile, Options

PKI: Final = "/etc/kubernetes/pki"
CONFIG: Final = "/etc/kubernetes/seed-kubeadm.yaml"
JOIN: Final = "/etc/kubernetes/seed-kubeadm-join.yaml"
"""The first one's, for when it is imaged anew."""
CA: Final = "/etc/seed/kubeadm/ca.crt"
"""Everybody's copy: a worker has none below PKI until it has joined."""
CONTAINERD: Final = "/etc/seed/kubeadm/containerd.toml"
LISTED: Final = "/etc/seed/kubeadm/bundle.sha256"
KUBELET: Final = "/etc/systemd/system/kubelet.service"
RESOLVED: Final = "/etc/systemd/resolved.conf.d/seed-fallback.conf"
BUNDLE: Final = "/var/lib/seed/bundle"
STATE: Final = "/var/lib/seed/kubeadm"
CLUSTER_INFO: Final = "/api/v1/namespaces/kube-public/configmaps/cluster-info"

_FETCH = """\
mkdir -p {folder}; cd {folder}
while read -r digest path; do
  echo "$digest  $path" | sha256sum --check --status 2>/dev/null && continue
  mkdir -p "${{path%/*}}"
  curl --fail --silent --show-error --connect-timeout 20 --speed-limit 10000 --speed-time 60 \
--output "$path.new" {url}"/$path"
  if ! echo "$digest  $path.new" | sha256sum --check --status; then
    echo "$path of the bundle is not what it should be: run seed bundle verify"; exit 1
  fi
  mv "$path.new" "$path"
done < {listed}
"""
# Nobody fetches an image again that kubelet took away to make room, so it takes none of these; and
# one that was saved under another registry's name has kubeadm's, too.
_IMAGES = """\
for archive in {archives}; do ctr --namespace k8s.io images import "$archive"; done
there=$(ctr --namespace k8s.io images ls --quiet)
for image in $({programs}/kubeadm config images list --kubernetes-version v{version}); do
  if ! printf '%s\\n' "$there" | grep -qxF "$image"; then
    saved=$(printf '%s\\n' "$there" | grep "/${{image##*/}}$" | head -n 1)
    [ -n "$saved" ] || continue
    ctr --namespace k8s.io images tag "$saved" "$image"
  fi
  ctr --namespace k8s.io images label "$image" io.cri-containerd.pinned=pinned
done
"""
_SANDBOX = """\
image=$({programs}/kubeadm config images list --kubernetes-version v{version} | grep /pause:)
mkdir -p /etc/containerd/conf.d
sed "s|@SANDBOX@|$image|" {template} > /etc/containerd/conf.d/seed.toml
systemctl restart containerd.service
if ! containerd config dump | grep -qF "$image"; then
  echo "containerd does not import /etc/containerd/conf.d/*.toml: let its config.toml do so"; exit 1
fi
"""
_RESOLVER = """\
if systemctl is-active --quiet systemd-resolved.service; then
  systemctl restart systemd-resolved.service
fi
"""
_PATH = """\
export PATH={path}
"""
# A first one that was imaged anew finds its cluster there, and must not begin another: what it
# began itself it goes on with, as `kubeadm init` does all that is not done yet.
_INIT = """\
mkdir -p -m 700 {state}
if [ -e {state}/begun ] || ! {ask}; then
  touch {state}/begun
  sync -f {state}/begun
  kubeadm init --config {config} --skip-token-print
  touch {state}/joined
  exit
fi
"""
_JOIN = """\
kubeadm join --config {join}
"""
# A control plane's second try begins anew, else its own node and etcd member are in its way.
# `kubeadm reset` takes the CAs away, too, which nobody can fetch again.
_JOIN_CONTROL = """\
mkdir -p -m 700 {state}
if [ ! -d {state}/pki ]; then
  rm -rf {state}/pki.new
  cp -a {pki} {state}/pki.new
  mv {state}/pki.new {state}/pki
fi
if [ -e {state}/tried ]; then
  kubeadm reset --force --cri-socket {socket}
  mkdir -p {pki}
  cp -a {state}/pki/. {pki}
fi
touch {state}/tried
sync -f {state}/tried
kubeadm join --config {join}
touch {state}/joined
"""


def steps(facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
    """What Debian has comes first, then what somebody must bring."""
    up = ("/usr/bin/systemctl", "enable", "--now", "containerd.service")
    found = [*chosen_addons.early(facts, member), Step("containerd", up, ("/usr/bin/containerd",))]
    found.append(Step("resolver", shell(_RESOLVER), (RESOLVED,)))
    if chosen_addons.cni(facts) == chosen_addons.BRIDGE:
        found += _bridge.steps()
    if member.role == "control":
        found += _kube_vip.steps() if options.vip == _kube_vip.NAME else _vip.steps(facts)
    found += _programs(facts, options)
    found += _images(facts, member, options)
    if not member.first:
        argv = ("/usr/bin/env", *_ask(facts))
        found.append(
            Step("api", argv, (CA,), try_seconds=15, pause_seconds=2, patience_seconds=7200)
        )
    found.append(_last(facts, member, options))
    if options.vip == _kube_vip.NAME and member.role == "control":
        if member.first:
            found.insert(-1, _kube_vip.begin(" ".join(_ask(facts))))
        found.append(_kube_vip.joined())
    return [*found, *chosen_addons.steps(facts, member)]


def check() -> tuple[str, ...]:
    """Of a member that is one: kubelet says of itself that it is well."""
    url = "http://127.0.0.1:10248/healthz"
    return ("/usr/bin/curl", "--silent", "--show-error", "--fail", "--max-time", "10", url)


def fetch(facts: ClusterFacts, listed: str) -> Step:
    """The bundle's files to BUNDLE. listed: a path; lines as `listing` makes them."""
    text = _FETCH.format(folder=BUNDLE, url=quote(facts.bundle_url.rstrip("/")), listed=listed)
    return Step("bundle", shell(text), ("/usr/bin/curl", listed), try_seconds=3600)


def listing(files: Iterable[BundleFile]) -> str:
    return "".join(f"{file.sha256} {file.path}\n" for file in files)


def shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-euc", text)


def _programs(facts: ClusterFacts, options: Options) -> Iterator[Step]:
    programs = tuple(f"{options.programs}/{name}" for name in PROGRAMS)
    if facts.bundle_url:
        yield fetch(facts, LISTED)
        files = tuple(f"{BUNDLE}/{file.path}" for file in options.binaries())
        install = ("/usr/bin/install", "-D", "-m", "755", "-t", options.programs, *files)
        yield Step("programs", install, files)
    enable = "systemctl daemon-reload; systemctl enable kubelet.service"
    yield Step("kubelet", shell(enable), (*programs, KUBELET))
    text = _SANDBOX.format(programs=options.programs, version=facts.version, template=CONTAINERD)
    yield Step("sandbox image", shell(text), (programs[0], CONTAINERD))


def _images(facts: ClusterFacts, member: MemberFacts, options: Options) -> Iterator[Step]:
    archives = tuple(f"{BUNDLE}/{file.path}" for file in options.images(member))
    if archives:
        text = _IMAGES.format(
            archives=" ".join(archives), programs=options.programs, version=facts.version
        )
        yield Step("images", shell(text), ("/usr/bin/ctr", *archives), try_seconds=1800)


def _ask(facts: ClusterFacts) -> tuple[str, ...]:
    """Whether there is a cluster at its address: cluster-info is what `kubeadm init` makes last of
    all that a joining node reads, and anybody may read it.
    """
    return (
        "curl", "--silent", "--show-error", "--fail", "--max-time", "10", "--output", "/dev/null",
        "--cacert", CA, f"https://{facts.vip}:{facts.api_port}{CLUSTER_INFO}",
    )  # fmt: skip


def _last(facts: ClusterFacts, member: MemberFacts, options: Options) -> Step:
    wants = [f"{options.programs}/kubeadm", f"{options.programs}/kubelet", CONFIG]
    # A worker's kubelet writes it once it has its certificate: it is a member then.
    name, text, done = "join", _JOIN, "/etc/kubernetes/kubelet.conf"
    if member.role == "control":
        text, done = _JOIN_CONTROL, f"{STATE}/joined"
    if member.first:
        name, text, wants = "init", _INIT + text, [*wants, JOIN]
    told = (_PATH + text).format(
        path=options.path, config=CONFIG, join=JOIN if member.first else CONFIG, state=STATE,
        pki=PKI, socket=SOCKET, ask=" ".join(_ask(facts)),
    )  # fmt: skip
    return Step(name, shell(told), tuple(wants), done, try_seconds=3600, patience_seconds=7200)
