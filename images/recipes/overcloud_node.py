"""A node for an OpenStack in containers, as Kolla-Ansible's bootstrap and prechecks want it.

Its podman_sdk role adds an apt repository of others, or makes a virtualenv, which finds all that it
wants in the image (provisioning/installers/_kolla_project.py): bindings, pip, packaging.
chrony takes the place of systemd-timesyncd, because prechecks look for an NTP daemon they know.
"""

from pathlib import Path

from images.wholedisk import ENABLED, WholeDisk
from images.workbench import words

PACKAGES = words("""
podman crun netavark aardvark-dns catatonit uidmap
python3-podman python3-dbus python3-docker python3-apt python3-venv python3-setuptools
python3-requests python3-yaml python3-pip python3-packaging
chrony git gnupg acl rsync lvm2 xfsprogs apparmor nftables iptables
logrotate cron bridge-utils openssl jq
""")
PLUGIN = WholeDisk(
    file=Path(__file__),
    name="overcloud-node",
    more=PACKAGES,
    without=("systemd-timesyncd",),
    texts={"etc/modules-load.d/overcloud.conf": "br_netfilter\noverlay\nip_vs\n"},
    enabled=(*ENABLED, "chrony.service", "podman.socket"),
    quiet=(
        *words("nftables.service podman.service podman-restart.service lvm2-monitor.service"),
        *words(
            "podman-auto-update.timer podman-auto-update.service podman-clean-transient.service"
        ),
    ),
    min_disk_gib=40,
    scratch_gib=8,
    services=("ssh.service", "chrony.service", "podman.socket"),
)
