"""A node for Kubernetes (kubeadm, k3s and others bring the rest) or for Docker Swarm.

containerd runs, dockerd is installed and off: Debian's docker.io uses that same containerd, so both
are there without a conflict, and whoever installs a swarm enables docker.service. haproxy and
keepalived are there for a control plane's address, and off. kubeadm and kubelet are not in Debian.
Of busybox-static a swarm's node makes the image that tries it; it takes busybox's place.
"""

from pathlib import Path

from images.wholedisk import CLOCK, ENABLED, WholeDisk
from images.workbench import Workbench, words

PACKAGES = words("""
containerd runc containernetworking-plugins docker.io docker-cli
conntrack socat ipset iptables nftables ebtables ipvsadm ethtool arptables
haproxy keepalived apparmor nfs-common lvm2 xfsprogs jq openssl xz-utils busybox-static
""")
MODULES = words("overlay br_netfilter nf_conntrack ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh")
# What kubeadm's checks and kubelet's --protect-kernel-defaults want; watches for many containers.
SYSCTL = """\
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
vm.overcommit_memory = 1
vm.panic_on_oom = 0
kernel.panic = 10
kernel.panic_on_oops = 1
fs.inotify.max_user_instances = 8192
fs.inotify.max_user_watches = 524288
"""
# Network add-ons put their plugins into /opt/cni/bin; Debian's are linked there.
CONTAINERD = """\
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
"""
OFF = words("""
docker.service docker.socket haproxy.service keepalived.service nftables.service ipvsadm.service
nfs-client.target rpcbind.service rpcbind.socket nfs-blkmap.service lvm2-monitor.service
""")


def _plugins(bench: Workbench) -> None:
    target = bench.root / "opt/cni/bin"
    target.mkdir(parents=True)
    for plugin in sorted((bench.root / "usr/lib/cni").iterdir()):
        (target / plugin.name).symlink_to(f"/usr/lib/cni/{plugin.name}")
    for name in ("etc/cni/net.d", "etc/containerd/certs.d", "etc/containerd/conf.d"):
        (bench.root / name).mkdir(parents=True, exist_ok=True)


PLUGIN = WholeDisk(
    file=Path(__file__),
    name="kubernetes-node",
    more=PACKAGES,
    texts={
        "etc/modules-load.d/kubernetes.conf": "".join(f"{name}\n" for name in MODULES),
        "etc/sysctl.d/90-kubernetes.conf": SYSCTL,
        "etc/containerd/config.toml": CONTAINERD,
    },
    enabled=(*ENABLED, *CLOCK, "containerd.service"),
    quiet=OFF,
    finish=_plugins,
    min_disk_gib=20,
    scratch_gib=8,
    services=("ssh.service", "containerd.service"),
)
