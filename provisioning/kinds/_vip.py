"""One address for all control planes: keepalived (VRRP, RFC 3768) moves it, haproxy serves on it.

Debian's packages of both (haproxy 2.6 and 3.0, keepalived 2.2 and 2.3 read what is written here).
Every control plane forwards to all of them, so that the address may be where no API runs yet.
"""

import secrets
import string
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import Final

from provisioning.kinds import ClusterFacts, Fault, Fresh, MemberFacts, Step, part
from provisioning.targets import PartSpec

ALIVE_PORT: Final = 8404
"""haproxy's own answer on loopback, for keepalived's check."""
HIGHEST: Final = 150
"""VRRP priority of the first control plane; each next one has one less."""
HAPROXY: Final = "/etc/haproxy/haproxy.cfg"
"""Has a line `server NAME ADDRESS:PORT` for each control plane of now."""
_KEEPALIVED = "/etc/keepalived/keepalived.conf"
_PASSWORD_NAME = "seed-password.conf"  # noqa: S105 - beside it
_PASSWORD = f"/etc/keepalived/{_PASSWORD_NAME}"
"""Apart, so that the rest may be told anew by whoever must not know it."""
_UNITS: Final = ("haproxy.service", "keepalived.service")
# A server that is there but slow is none that is down: `timeout check` counts once it has taken the
# connection. Watches and `kubectl exec` are silent for long; keepalives find the ends that died.
_HAPROXY_CFG = """\
global
    log /dev/log local0 warning
    chroot /var/lib/haproxy
    user haproxy
    group haproxy

defaults
    log global
    timeout connect 5s
    timeout check 10s
    timeout client 1h
    timeout server 1h
    option clitcpka
    option srvtcpka

frontend alive
    mode http
    bind 127.0.0.1:{alive}
    timeout http-request 5s
    monitor-uri /

# Bound on control planes that do not have the address now, too: it may come at any time.
frontend api
    mode tcp
    bind {vip}:{port} transparent
    default_backend control

backend control
    mode tcp
    balance leastconn
{check}    default-server check inter 2s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}"""
_KEEPALIVED_CONF = """\
global_defs {{
    router_id {name}
    enable_script_security
    script_user nobody
}}

vrrp_script haproxy {{
    script "/usr/bin/curl --silent --fail --max-time 8 --output /dev/null http://127.0.0.1:{alive}/"
    interval 2
    timeout 10
    fall 2
    rise 1
}}

vrrp_instance api {{
    state BACKUP
    nopreempt
    interface {interface}
    virtual_router_id {router}
    priority {priority}
    advert_int 1
{peers}    include {password}
    virtual_ipaddress {{
        {vip}/32 dev {interface}
    }}
    track_script {{
        haproxy
    }}
}}
"""


_LOGIN_CONF = """\
authentication {{
    auth_type PASS
    auth_pass {word}
}}
"""


def new_password() -> str:
    """VRRP takes 8 characters, and sends them in clear: against mistakes, not against enemies."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))


def control_planes(facts: ClusterFacts) -> list[MemberFacts]:
    """In their order."""
    return [member for member in facts.members if member.role == "control"]


def bare(member: MemberFacts) -> str:
    """Its address without a prefix length."""
    return str(IPv4Interface(member.address).ip)


def address(facts: ClusterFacts) -> IPv4Address | None:
    """None: what stands there is none."""
    try:
        return IPv4Address(facts.vip)
    except ValueError:
        return None


def faults(facts: ClusterFacts, taken: dict[int, str]) -> list[Fault]:
    """What is wrong with the address itself. taken: port of a control plane -> whose it is."""
    found = []
    vip = address(facts)
    if vip is None:
        says, remedy = f"{facts.vip!r} is no IPv4 address", "Write it bare: 10.30.0.5."
        found.append(Fault("vip", says, remedy))
    else:
        found += _about(vip, facts)
    whose = {**taken, ALIVE_PORT: "haproxy's own"}.get(facts.api_port)
    if whose or not 0 < facts.api_port < 65536:
        says = f"port {facts.api_port} is {whose or 'none that can be'} on a control plane"
        found.append(Fault("api_port", says, "Take 6443, or another that is free there."))
    return found


def _about(vip: IPv4Address, facts: ClusterFacts) -> Iterator[Fault]:
    remedy = "Reserve a free address of the network of role api that its control planes have."
    for member in facts.members:
        own = IPv4Interface(member.address)
        if own.ip == vip:
            yield Fault("vip", f"{vip} is the address of {member.name}", remedy)
        elif member.role == "control" and vip not in own.network:
            says = f"{vip} is not in {own.network}, the network of {member.name}"
            yield Fault("vip", says, remedy)


def parts(
    facts: ClusterFacts,
    member: MemberFacts,
    password: str,
    to_port: int,
    check: Sequence[str] = (),
) -> list[PartSpec]:
    """Of a control plane. to_port: where each serves, not api_port; check: haproxy's lines that
    ask a server how it is, without them a connection must be taken.
    """
    secret = _LOGIN_CONF.format(word=password)
    return [
        *(part(one.path, one.content) for one in fresh(facts, member, to_port, check)),
        part(_PASSWORD, secret, 0o600),
    ]


def fresh(
    facts: ClusterFacts, member: MemberFacts, to_port: int, check: Sequence[str] = ()
) -> list[Fresh]:
    """Of a control plane: those of its parts that name the others."""
    contents = (_haproxy(facts, to_port, check), _keepalived(facts, member))
    paths = (HAPROXY, _KEEPALIVED)
    return [Fresh(*one) for one in zip(paths, contents, _UNITS, strict=True)]


def steps(facts: ClusterFacts) -> list[Step]:
    """Of a control plane: the address is up, on one of them."""
    programs = ("/usr/sbin/haproxy", "/usr/sbin/keepalived", "/usr/bin/curl")
    begin = f"systemctl enable {' '.join(_UNITS)} && systemctl restart {' '.join(_UNITS)}"
    ask = f"exec 3<>/dev/tcp/{facts.vip}/{facts.api_port}"
    return [
        Step(
            "load balancer",
            ("/bin/sh", "-euc", begin),
            (*programs, HAPROXY, _KEEPALIVED, _PASSWORD),
        ),
        Step("address", ("/bin/bash", "-c", ask), try_seconds=10, pause_seconds=1),
    ]


def leave() -> list[Step]:
    """Of a control plane: the address goes to another one, before this one serves no more."""
    return [
        Step("hand over address", ("/usr/bin/systemctl", "disable", "--now", *reversed(_UNITS)))
    ]


def _haproxy(facts: ClusterFacts, to_port: int, check: Sequence[str]) -> str:
    servers = (
        f"    server {member.name} {bare(member)}:{to_port}\n" for member in control_planes(facts)
    )
    return _HAPROXY_CFG.format(
        alive=ALIVE_PORT,
        vip=facts.vip,
        port=facts.api_port,
        check="".join(f"    {line}\n" for line in check),
        servers="".join(servers),
    )


def _keepalived(facts: ClusterFacts, member: MemberFacts) -> str:
    order = [one.name for one in control_planes(facts)]
    others = [bare(one) for one in control_planes(facts) if one.name != member.name]
    peers = [f"mcast_src_ip {bare(member)}"]
    if others:
        listed = [*("    " + address for address in others), "}"]
        peers = [f"unicast_src_ip {bare(member)}", "unicast_peer {", *listed]
    return _KEEPALIVED_CONF.format(
        name=member.name,
        alive=ALIVE_PORT,
        interface=member.interface,
        # From 1 to 255, and another for each address of a subnet: who is alone uses multicast.
        router=int(IPv4Address(facts.vip)) % 255 + 1,
        priority=max(1, HIGHEST - order.index(member.name)),
        peers="".join(f"    {line}\n" for line in peers),
        password=_PASSWORD_NAME,
        vip=facts.vip,
    )
