"""The ramdisk of Ironic's rescue: the agent, then a login.

Told to, the agent writes the password's hash to /etc/ipa-rescue-config, then /etc/.rescued, and
ends. Only that file starts the login: before it there is no account, no sshd and no host key.
"""

from pathlib import Path

from images.inmemory import Ramdisk
from images.workbench import words

PACKAGES = words("""
openssh-server sudo less vim-tiny rsync curl lvm2 cryptsetup-bin xfsprogs btrfs-progs testdisk
gddrescue partclone iputils-ping netcat-openbsd tcpdump
""")
CONFIG = "etc/ipa-rescue-config"
LOGIN = f"""\
#!/bin/sh
# The agent has ended; what it was told is in a file that only root reads.
set -eu
hash=$(cat /{CONFIG}/ipa-rescue-password)
case "$hash" in '$'?*) ;; *) echo "no hashed password was given" >&2; exit 1;; esac
id rescue >/dev/null 2>&1 || useradd -m -s /bin/bash rescue
printf 'rescue:%s\\n' "$hash" | chpasswd -e
rm -f /{CONFIG}/ipa-rescue-password
ssh-keygen -q -A
# The wire may be another one now: the tenant's.
networkctl reload
for link in /sys/class/net/*; do
    name=${{link##*/}}
    [ "$name" = lo ] || networkctl reconfigure "$name" || true
done
"""
WATCH = "[Unit]\nDescription=Rescue was asked for\n[Path]\nPathExists=/etc/.rescued\n"
PREPARE = """\
[Unit]
Description=The login of a rescue
ConditionPathExists=/etc/.rescued
Before=ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/lib/seed-rescue-login
ExecStartPost=/usr/bin/systemctl --no-block start ssh.service
"""
# One name, one way in; nobody has a key here.
SSHD = """\
AllowUsers rescue
PermitRootLogin no
PasswordAuthentication yes
HostKey /etc/ssh/ssh_host_ed25519_key
"""
PLUGIN = Ramdisk(
    file=Path(__file__),
    name="rescue",
    more=PACKAGES,
    # A login needs PAM's session, and the account is made when it is asked for.
    unmasked=words("systemd-user-sessions.service"),
    texts={
        f"{CONFIG}/README": "The agent writes the hash of the rescue's password here.\n",
        "usr/lib/seed-rescue-login": LOGIN,
        "etc/systemd/system/rescue-login.path": WATCH,
        "etc/systemd/system/rescue-login.service": PREPARE,
        "etc/systemd/system/ironic-python-agent.service.d/rescued.conf": (
            "[Unit]\nConditionPathExists=!/etc/.rescued\n"
        ),
        "etc/ssh/sshd_config.d/10-rescue.conf": SSHD,
        "etc/sudoers.d/rescue": "rescue ALL=(ALL) NOPASSWD:ALL\n",
        "etc/systemd/system/ssh.service.d/rescue.conf": (
            "[Unit]\nConditionPathExists=/etc/.rescued\n"
        ),
    },
    enabled={"multi-user.target.wants": ("/etc/systemd/system", "rescue-login.path")},
    scratch_gib=5,
    takes=frozenset({"ca", "packages", "files"}),
)
