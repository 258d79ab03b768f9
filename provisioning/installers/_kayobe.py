"""Kayobe's groups, and what people do with its files, in order."""

from typing import Final

from provisioning.installers import OvercloudFacts
from provisioning.installers._documents import steps

GROUPS_FILE: Final = """\
# Kayobe's groups. Hosts for the network are a group of their own here, whoever is in it.

[controllers]
[network]
[monitoring]
[storage]
[compute-vgpu]
[compute]

[compute:children]
compute-vgpu

[overcloud:children]
controllers
network
monitoring
storage
compute

[vgpu:children]
compute-vgpu

[iommu:children]
vgpu

[container-engine:children]
controllers
network
monitoring
storage
compute

[ntp:children]
overcloud

# Seed made the nodes: what Kayobe's own seed is for stays empty.

[seed]
[seed-hypervisor]
[infra-vms]
[baremetal-compute]

[hypervisors:children]
seed-hypervisor

[container-image-builders:children]
seed

[docker-registry:children]
seed

[mgmt-switches]
[ctl-switches]
[hs-switches]

[switches:children]
mgmt-switches
ctl-switches
hs-switches
"""
_SAME: Final = (
    "lvm_groups", "mdadm_arrays", "luks_devices", "swap", "sysctl_parameters", "firewalld_enabled",
    "firewalld_zones", "firewalld_default_zone", "firewalld_rules",
    "tuned_active_builtin_profile", "users",
)  # fmt: skip
NETWORK_HOSTS: Final = {
    "ansible_user": "{{ kayobe_ansible_user }}",
    "bootstrap_user": "{{ controller_bootstrap_user }}",
    **{name: f"{{{{ controller_{name} }}}}" for name in _SAME},
}
"""Kayobe says these of controllers; of hosts that are for the network alone, nobody does."""


def readme(facts: OvercloudFacts) -> str:
    """Commands: doc/source/{installation,deployment}.rst of kayobe 18.6.0."""
    title = f"Kayobe's configuration of the overcloud {facts.name}"
    return f"{title}\n\n{_order(facts)}\n{_not(facts)}"


def _order(facts: OvercloudFacts) -> str:
    release = facts.release or "the release that you want"
    return steps(
        (
            f"On a host that reaches {facts.networks['api'].cidr}, and is none of the nodes:",
            f"Kayobe of {release}, and a kayobe-config of the same.",
        ),
        (
            "These files over it. They take the place of files of the same names:",
            "  cp -r etc/kayobe/. $KAYOBE_CONFIG_PATH/",
        ),
        (
            "Kayobe logs in first as the user that its distribution's images have (ubuntu, rocky);",
            "where yours have another one, say controller_bootstrap_user and so on.",
        ),
        (
            "Then, one after the other. Nothing of `kayobe seed`, and neither inventory discover,",
            "hardware inspect, provision nor deprovision: Seed has done these, or will.",
            "  kayobe control host bootstrap",
            "  kayobe overcloud host configure",
            "  kayobe overcloud container image pull",
            "  kayobe overcloud service deploy",
            "  kayobe overcloud post configure",
        ),
    )  # fmt: skip


def _not(facts: OvercloudFacts) -> str:
    words = [
        "host configure writes the network again, as told here: the address by which the Seed\n"
        "machine reached a node may be gone afterwards.",
        "Addresses of more nodes are Seed's to give: export again, so that Kayobe takes none of\n"
        "its own from the same pool.",
    ]
    if facts.dhcp:
        words.append(f"Seed serves DHCP of {', '.join(facts.dhcp)}: nothing of the overcloud may.")
    return "".join(f"{word}\n" for word in words)
