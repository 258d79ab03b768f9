"""Pods' network without an add-on: Debian's CNI plugins, a bridge per node, and static routes.

A node's pods have the /24 of pod_cidr that its address counts: the node .17 of its network has the
17th. So no node keeps a list of the others: each has routes to all addresses that there can be, and
one that comes later, or in another's place, changes nothing on those that are there.
"""

import json
from ipaddress import IPv4Interface, IPv4Network
from itertools import islice
from typing import Final

from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step, part
from provisioning.targets import PartSpec

MOST: Final = 1024
"""Routes of a node: the addresses of a /22."""
PER_NODE: Final = 24
"""Prefix length of a node's pods: kubelet runs 110 by default."""
_CONFLIST = "/etc/cni/net.d/10-seed.conflist"
_ROUTES = "/etc/seed/pods/routes"
_MASQUERADE = "/etc/seed/pods/masquerade.nft"
_UNIT = "/etc/systemd/system/seed-pods.service"
_NETWORKD = "/etc/systemd/networkd.conf.d/seed-pods.conf"
_UNIT_TEXT = f"""\
[Unit]
Description=Routes to the pods of this cluster's other nodes
Wants=network-online.target
After=network-online.target
Before=kubelet.service
# The network is online with the first port that is; this one's may come later.
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip -batch {_ROUTES}
ExecStart=/usr/sbin/nft -f {_MASQUERADE}
Restart=on-failure
RestartSec=2

[Install]
WantedBy=multi-user.target
"""
# networkd.conf(5): else it takes away, with each change of a link, what others have set there.
_NETWORKD_TEXT = """\
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
"""
# Read once more it is there once: nft knows no "replace".
_MASQUERADE_TEXT = """\
table ip seed-pods
delete table ip seed-pods
table ip seed-pods {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {pods} ip daddr != {pods} masquerade
    }}
}}
"""


def faults(facts: ClusterFacts, pods: IPv4Network) -> list[Fault]:
    """pods: pod_cidr, read."""
    networks = {IPv4Interface(member.address).network for member in facts.members}
    if len(networks) > 1:
        listed = " and ".join(str(network) for network in sorted(networks))
        says = f"its nodes are in {listed}: cni bridge wants all of them in one network"
        return [Fault("options.cni", says, "Take another cni, or one network of role api.")]
    for member in facts.members:
        number, ranges = _number(member), _ranges(member, pods)
        if number >= ranges:
            says = (
                f"{pods} has {ranges} ranges of /{PER_NODE}, and {member.name} takes that of its "
                f"address: {member.address} is number {number}"
            )
            remedy = f"Take a pod_cidr of /{PER_NODE - number.bit_length()} or larger."
            if number >= MOST:
                remedy = "Take a network of role api of at most a /22, or another cni."
            return [Fault("pod_cidr", says, remedy)]
    return []


def parts(facts: ClusterFacts, member: MemberFacts) -> list[PartSpec]:
    pods = IPv4Network(facts.pod_cidr)
    texts = {
        _CONFLIST: json.dumps(_conflist(_nth(pods, _number(member))), indent=2) + "\n",
        _ROUTES: _routes(member, pods),
        _MASQUERADE: _MASQUERADE_TEXT.format(pods=pods),
        _UNIT: _UNIT_TEXT,
        _NETWORKD: _NETWORKD_TEXT,
    }
    return [part(path, text) for path, text in texts.items()]


def steps() -> list[Step]:
    """Before the cluster's address comes: networkd starts anew, and takes such away."""
    begin = (
        "systemctl daemon-reload; systemctl restart systemd-networkd.service; "
        "systemctl enable seed-pods.service; systemctl restart seed-pods.service"
    )
    wants = ("/opt/cni/bin/bridge", "/opt/cni/bin/host-local", "/usr/sbin/nft", _ROUTES, _UNIT)
    return [Step("pod network", ("/bin/sh", "-euc", begin), wants)]


def _number(member: MemberFacts) -> int:
    """How far its address is from the begin of its network."""
    own = IPv4Interface(member.address)
    return int(own.ip) - int(own.network.network_address)


def _ranges(member: MemberFacts, pods: IPv4Network) -> int:
    """How many numbers have a range."""
    fit = pods.num_addresses >> (32 - PER_NODE)
    return min(fit, IPv4Interface(member.address).network.num_addresses, MOST)


def _nth(pods: IPv4Network, number: int) -> IPv4Network:
    return next(islice(pods.subnets(new_prefix=PER_NODE), number, None))


def _routes(member: MemberFacts, pods: IPv4Network) -> str:
    """For `ip -batch`. The first and the last address of a network are nobody's."""
    network = IPv4Interface(member.address).network
    numbers = range(1, min(_ranges(member, pods), network.num_addresses - 1))
    ranges = islice(pods.subnets(new_prefix=PER_NODE), 1, None)
    return "".join(
        f"route replace {pod} via {network[number]} dev {member.interface}\n"
        for number, pod in zip(numbers, ranges, strict=False)
        if number != _number(member)
    )


def _conflist(own: IPv4Network) -> dict[str, object]:
    """CNI 1.0.0: Debian's plugins are 1.1 (bookworm and trixie)."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": str(own)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,  # a pod reaches itself by its service
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "seed", "plugins": [bridge, portmap]}
