"""What people may choose of Kolla-Ansible, by its own names of variables, and what is known of it.

Nothing here takes a template: Ansible would run what is in one on the Seed machine, and whoever may
ask for an overcloud writes options. Variables beyond these are the operator's (_kolla_project.py).
"""

import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

RELEASE: Final = "2026.1"
"""Of OpenStack: what Kolla-Ansible 22 deploys, whose group_vars/all all variables were taken of."""
NIC_LONGEST: Final = 15
"""Of a name of an interface: IFNAMSIZ without its end (linux/if.h)."""
REGISTRY: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?")
BRIDGED: Final = frozenset({"neutron_dvr", "neutron_provider_networks"})
"""With one of these, compute nodes have a bridge to the outside, too (computes_need_external_bridge
in ansible/group_vars/all/neutron.yml)."""
SERVICES: Final = frozenset(
    """
    aodh barbican blazar ceilometer central_logging cinder cinder_backend_lvm cinder_backup
    cloudkitty collectd cyborg designate etcd fluentd glance_image_cache gnocchi grafana hacluster
    heat horizon ironic ironic_neutron_agent ironic_pxe_filter magnum manila manila_backend_generic
    mariabackup masakari mistral multipathd neutron_agent_ha neutron_bgp_dragent neutron_dvr
    neutron_fwaas neutron_metering neutron_port_forwarding neutron_provider_networks neutron_qos
    neutron_segments neutron_sfc neutron_taas neutron_trunk neutron_vpnaas nova_serialconsole_proxy
    octavia opensearch osprofiler prometheus proxysql skyline tacker trove valkey watcher
    """.split()
)
"""NAME: Kolla's enable_NAME. heat, horizon, fluentd and proxysql are on anyway. What has
addresses or logins of its own, as most backends do, is the operator's variables."""
DROPPED: Final = {
    "kuryr": "Kolla-Ansible 22 has none.",
    "redis": "Take valkey.",
    "zun": "It was broken in 2026.1, so Kolla-Ansible 22 has none.",
}  # fmt: skip
"""What older releases had (its release notes)."""


def _address(text: str) -> str:
    ip_address(text)
    return text


Address = Annotated[str, StringConstraints(max_length=45), AfterValidator(_address)]
Fqdn = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$")
]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Folder = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$", max_length=255)]


class DhcpRange(BaseModel):
    """Of the overcloud's own Ironic, as roles/ironic/templates/ironic-dnsmasq.conf.j2 reads it.

    range: "FIRST,LAST", and ",NETMASK" where a relay brings the requests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    range: Annotated[str, StringConstraints(pattern=r"^[0-9.]+,[0-9.]+(,[0-9.]+)?$")]
    routers: Address | None = None
    ntp_server: Address | None = None
    dns_servers: Address | None = None
    lease_time: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}[smhd]?$")] | None = None


class Options(BaseModel):
    """kolla_base_distro: of the containers. keepalived_virtual_router_id: derived from the internal
    VIP if not told. openstack_tag: of the images. without: what is on unless it stands here.
    bootstrap_servers: no: that stage is left out; nodes are as it would make them.
    prechecks_enable_host_ntp_checks: no: where nothing tells the time, clocks are the operator's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: bool = True
    kolla_base_distro: Literal["debian", "ubuntu", "rocky", "centos"] = "debian"
    kolla_container_engine: Literal["podman", "docker"] = "podman"
    kolla_internal_fqdn: Fqdn | None = None
    kolla_external_fqdn: Fqdn | None = None
    keepalived_virtual_router_id: int | None = Field(default=None, ge=1, le=255)
    openstack_tag: Word | None = None
    docker_namespace: Folder | None = None
    docker_registry_insecure: bool = False
    neutron_plugin_agent: Literal["ovn", "openvswitch"] = "ovn"
    nova_compute_virt_type: Literal["kvm", "qemu"] | None = None
    ironic_dnsmasq_dhcp_ranges: tuple[DhcpRange, ...] = ()
    prechecks_enable_host_ntp_checks: bool = True
    without: tuple[Literal["fluentd", "heat", "horizon", "proxysql"], ...] = ()
