"""What is done as a member of a kubeadm cluster goes, by it and by the control planes that stay.

A node may neither evict pods nor take its own object away (kubernetes.io, "Using Node
Authorization"), so a control plane does both.
"""

from typing import Final

from provisioning.kinds import NAME, ClusterFacts, MemberFacts, Step, _kube_vip, _vip
from provisioning.kinds._kubeadm import SOCKET, VERSION, Options
from provisioning.kinds._kubeadm_steps import PKI, STATE

ADMIN: Final = "/etc/kubernetes/admin.conf"
_BEGIN = """\
export PATH={path} KUBECONFIG={admin}
"""
# Pods of nobody's go too: their node is erased. Who has none any more is not there, or drained.
_DRAIN = """\
node=$(kubectl get node "$1" --ignore-not-found --output name --request-timeout=20s)
[ -n "$node" ] || exit 0
kubectl drain "$1" --ignore-daemonsets --delete-emptydir-data --force --timeout=90s
"""
# The files of its bundle stay: the disk is erased. A control plane takes itself out of etcd here.
_LEAVE = """\
export PATH={path}
kubeadm reset --force --cri-socket {socket}
systemctl disable --now kubelet.service
"""
# One that died is among etcd's members still, and counts against its quorum. If it died before its
# etcd began, it has no name there yet, and is a learner: etcd takes no other one beside it ("too
# many learner members in cluster", seen with etcd 3.5.16), so nobody could join any more. Who has
# no name and is at no address of a control plane of now is not on its way.
_FORGET = """\
ask() {{
  kubectl --namespace kube-system --request-timeout=30s exec etcd-{me} -- etcdctl \
--cacert={pki}/etcd/ca.crt --cert={pki}/etcd/healthcheck-client.crt \
--key={pki}/etcd/healthcheck-client.key "$@"
}}
members=$(ask member list)
now=$(awk '$1 == "server" {{ sub(":[0-9]+$", "", $3); printf "https://%s:2380 ", $3 }}' {haproxy})
numbers=$(printf '%s\\n' "$members" | awk -F ', ' -v name="$1" -v now=" $now" \
'$3 == name || ($3 == "" && !index(now, " " $4 " ")) {{ print $1 }}')
for number in $numbers; do ask member remove "$number"; done
kubectl delete node "$1" --ignore-not-found --timeout=60s
"""
# kubeadm gives a control plane the version that this map names, not its own, so the first of an
# upgrade changes it. Back it never goes: somebody may have upgraded by hand. No admin.conf is here
# before the node has joined, but the CA is.
_VERSION = """\
export PATH={path} KUBECONFIG={state}/version/super-admin.conf
kubeadm init phase kubeconfig super-admin --kubernetes-version v{version} --cert-dir {pki} \
--kubeconfig-dir {state}/version --apiserver-advertise-address {vip} \
--control-plane-endpoint {vip}:{port} >/dev/null
trap 'rm -rf {state}/version' EXIT
map() {{ kubectl --namespace kube-system --request-timeout=20s "$@"; }}
has=$(map get configmap kubeadm-config --output yaml)
old=$(printf '%s\\n' "$has" | sed -n 's/^ *kubernetesVersion: *//p')
newest=$(printf '%s\\nv{version}\\n' "$old" | sort -V | tail -n 1)
if [ "$newest" != v{version} ]; then
  echo "this cluster has Kubernetes $old, and this node is made for v{version}"; exit 1
fi
want=$(printf '%s\\n' "$has" | sed 's/^\\( *kubernetesVersion: \\).*/\\1v{version}/')
[ "$has" = "$want" ] || printf '%s\\n' "$want" | map replace --filename -
"""
# What kubeadm puts on all nodes, as it would with `kubeadm upgrade apply`: of the version that the
# bundle of this member has, which the members of before have not, and nobody fetches. So they keep
# their kube-proxy until they go, and CoreDNS runs on those that are new. Its tag may be
# the one of before, whose nodes will be gone: so again with each upgrade. Back it never goes.
_SERVICES = """\
export PATH={path} KUBECONFIG={admin}
kube() {{ kubectl --namespace kube-system --request-timeout=20s "$@"; }}
wanted=$(kubeadm config images list --kubernetes-version v{version})
renew() {{
  has=$(kube get "$1" "$2" --ignore-not-found \
--output 'jsonpath={{.spec.template.spec.containers[0].image}}')
  tag=$(printf '%s\\n' "$wanted" | sed -n "s|.*/$2:||p")
  case "$has" in "" | *@*) return 0 ;; esac
  if [ "$tag" = "${{has##*:}}" ]; then
    kube get "$1" "$2" --output 'jsonpath={{.spec.template.spec.affinity}}' | grep -qF '"{label}"' \
|| return 0
  elif [ "$(printf '%s\\n' "$tag" "${{has##*:}}" | sort -V | tail -n 1)" = "${{has##*:}}" ]; then
    return 0
  fi
  pod='"containers": [{{"name": "'"$2"'", "image": "'"${{has%:*}}:$tag"'"}}]'
  kube patch "$1" "$2" --patch '{{"spec": {{'"$3"'"template": {{"spec": {{'"$4$pod"'}}}}}}}}'
}}
renew daemonset kube-proxy '"updateStrategy": {{"type": "OnDelete", "rollingUpdate": null}}, ' ""
renew deployment coredns "" '"affinity": {{"nodeAffinity": {{\
"requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": [{{"matchExpressions": [\
{{"key": "{label}", "operator": "In", "values": ["{version}"]}}]}}]}}}}}}, '
"""


def drain(options: Options) -> list[Step]:
    return [Step("drain", _shell(_BEGIN + _DRAIN, options, NAME), (ADMIN,), patience_seconds=600)]


def leave(facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
    before = _kube_vip.leave(facts) if options.vip == _kube_vip.NAME else _vip.leave()
    before = before if member.role == "control" else []
    return [*before, Step("reset", _shell(_LEAVE, options), try_seconds=300)]


def forget(member: MemberFacts, options: Options) -> list[Step]:
    argv = _shell(_BEGIN + _FORGET, options, NAME, me=member.name, haproxy=_vip.HAPROXY)
    return [Step("forget", argv, (ADMIN, _vip.HAPROXY), patience_seconds=600)]


def version(facts: ClusterFacts, options: Options) -> Step:
    """Of a control plane that joins: the cluster's version is the one that it was made for."""
    argv = _shell(_VERSION, options, version=facts.version, vip=facts.vip, port=str(facts.api_port))
    programs = tuple(f"{options.programs}/{name}" for name in ("kubeadm", "kubectl"))
    return Step("cluster version", argv, (*programs, f"{PKI}/ca.key"))


def services(facts: ClusterFacts, options: Options) -> Step:
    """Of a control plane that has joined: kube-proxy and CoreDNS are not older than it."""
    argv = _shell(_SERVICES, options, version=facts.version, label=VERSION)
    programs = tuple(f"{options.programs}/{name}" for name in ("kubeadm", "kubectl"))
    return Step("cluster services", argv, (*programs, ADMIN))


def _shell(text: str, options: Options, *words: str, **told: str) -> tuple[str, ...]:
    """words: $1 and so on of it."""
    known = {"path": options.path, "admin": ADMIN, "pki": PKI, "socket": SOCKET, "state": STATE}
    shell = ("/bin/sh", "-euc", text.format(**known, **told))
    return (*shell, "sh", *words) if words else shell
