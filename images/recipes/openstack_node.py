"""A node for an OpenStack from Debian's own packages (trixie: 2025.1), installed and all off.

Role-neutral: control, network and compute services are there, no unit of theirs is enabled, no
secret is left. Whoever configures it enables what the node shall be.
"""

from pathlib import Path

from images.wholedisk import CLOCK, ENABLED, WholeDisk
from images.workbench import Workbench, remove, words

CONTROL = words("""
mariadb-server rabbitmq-server memcached python3-memcache python3-pymysql keystone glance-api
placement-api nova-api nova-scheduler nova-conductor neutron-api neutron-rpc-server
python3-openstackclient crudini debconf-utils nginx busybox-static
openstack-dashboard python3-pymemcache
""")
NETWORK = words("""
ovn-central ovn-host neutron-ovn-metadata-agent neutron-ovn-maintenance-worker
neutron-periodic-workers neutron-openvswitch-agent neutron-dhcp-agent
""")
COMPUTE = ("nova-compute", "nova-compute-kvm")

# Drawn when the package was installed: each server makes its own, and no two images differ by them.
SECRETS = words("""
var/lib/rabbitmq/.erlang.cookie etc/iscsi/initiatorname.iscsi etc/openvswitch/conf.db
etc/openvswitch/system-id.conf etc/openvswitch/.conf.db.~lock~ etc/ssl/private/*
etc/ssl/certs/ssl-cert-snakeoil.pem var/lib/mysql/* var/lib/ovn/*.db etc/ovn/*.pem
etc/libvirt/secrets/* var/lib/nova/compute_id
var/lib/libvirt/dnsmasq/* etc/libvirt/nwfilter/* var/lib/keystone/*.db
var/lib/openstack-dashboard/secret-key/*
""")
# MariaDB's tables are made by the package; without them the server does not start.
DATABASE = """\
[Service]
ExecStartPre=+/bin/sh -c '[ -d /var/lib/mysql/mysql ] || mariadb-install-db --user=mysql \\
    --skip-test-db --auth-root-authentication-method=socket >/dev/null'
"""
# 90 s, systemd's usual, is too short for a service that loads for a minute and answers then.
PATIENCE = "[Manager]\nDefaultTimeoutStartSec=900s\n"

KEPT = (*ENABLED, *CLOCK)
OWN = words("""
keystone* glance* placement* nova* neutron* ovn* openvswitch* ovs* mariadb* rabbitmq* epmd*
memcached* nginx*
libvirt* virt* apache2* uwsgi* haproxy* dnsmasq* iscsi* open-iscsi* iscsid* multipath* nfs* rpcbind*
rpc-* dm-event* lvm2* blk-availability* radvd* conntrackd* keepalived* mdmonitor* qemu* ksm* tgt*
systemd-machined* cgroupfs* ebtables* iptables* nftables* netfilter* redis* logrotate.timer
""")


def _off(bench: Workbench) -> None:
    """Every unit that these packages enabled, and their old init scripts' links too."""
    folder = bench.root / "etc/systemd/system"
    for pattern in OWN:
        wanted = [link for link in folder.glob(f"*.*/{pattern}") if link.name not in KEPT]
        aliases = [link for link in folder.glob(pattern) if link.is_symlink()]
        for path in [*wanted, *aliases, *bench.root.glob(f"etc/rc?.d/S??{pattern}")]:
            remove(path)
    for pattern in SECRETS:
        for path in bench.root.glob(pattern):
            remove(path)


PLUGIN = WholeDisk(
    file=Path(__file__),
    name="openstack-node",
    more=(*CONTROL, *NETWORK, *COMPUTE),
    texts={
        "etc/systemd/system/mariadb.service.d/seed.conf": DATABASE,
        "etc/systemd/system.conf.d/openstack.conf": PATIENCE,
    },
    enabled=KEPT,
    finish=_off,
    min_disk_gib=20,
    scratch_gib=12,
)
