"""What runs on a handed-out server. Self-contained: the server has Python 3 and nothing of ours."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from email import message_from_string
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

from provisioning.kinds import Step
from provisioning.targets import PartSpec, Seat

_HERE = Path(__file__).parent
_KEPT = "/etc/seed-first-boot"
"""What outlives a restart within the first boot: new kernel arguments need one, and the caller's
user-data may ask for one. Root's alone, and gone after the proof."""
UNIT = f"""\
[Unit]
Description=First word to the seed, once
Wants=network-online.target
After=network-online.target
ConditionPathExists={_KEPT}/phone-home.json

[Service]
ExecStart=/usr/bin/env python3 {_KEPT}/phone_home.py {_KEPT}/phone-home.json

[Install]
WantedBy=multi-user.target
"""

VERBS = ("drain", "leave", "forget")


@dataclass(frozen=True, slots=True)
class Changes:
    """As a kind has them. fresh: path -> unit that is reloaded after it changed. tries: an
    argv that tries the whole cluster; see kinds.Tries."""

    drain: Sequence[Step] = ()
    leave: Sequence[Step] = ()
    forget: Sequence[Step] = ()
    fresh: dict[str, str] = field(default_factory=dict)
    tries: Sequence[str] = ()


MEMBER = "/etc/seed-member"
"""What a member of a cluster keeps as long as it is one: member.py, its config, the kind's keys."""
MEMBER_UNIT = f"""\
[Unit]
Description=Makes this server a member of its cluster
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/env python3 {MEMBER}/member.py
Restart=always
RestartSec=2
# Nothing of a step outlives it: the next start begins that step anew.
KillMode=control-group

[Install]
WantedBy=multi-user.target
"""


def phone_home(
    url: str,
    token: str,
    ca_pem: str,
    kernel_args: Sequence[str] = (),
    services: Sequence[str] = (),
) -> str:
    """A shell script for cloud-init's vendor data that starts the proof once cloud-init is done.

    It starts a unit of its own, because cloud-init's result is only known after all its scripts.
    services: systemd units whose state the proof tells.
    """
    config = {
        "url": url, "token": token, "ca": ca_pem, "kernel_args": list(kernel_args),
        "services": list(services),
    }  # fmt: skip
    return (
        "#!/bin/sh\n"
        f"umask 077\nmkdir -p {_KEPT}\n"
        # Once more: whom a file belongs to may be there only now.
        f"[ ! -e {_KEPT}/early.json ] || python3 {_KEPT}/early.py {_KEPT}/early.json late\n"
        + _file(f"{_KEPT}/phone-home.json", json.dumps(config))
        + _file(f"{_KEPT}/phone_home.py", (_HERE / "phone_home.py").read_text())
        + _file("/etc/systemd/system/seed-phone-home.service", UNIT)
        + f"cat /proc/sys/kernel/random/boot_id >{_KEPT}/boot\nsync\n"
        "systemctl enable --quiet seed-phone-home.service\n"  # it reloads systemd, too
        "systemctl start --no-block seed-phone-home.service\n"
    )


def member(
    url: str, token: str, ca_pem: str, cluster: str, name: str, steps: Sequence[Step],
    check: Sequence[str] = (), secrets: Sequence[str] = (), changes: Changes | None = None,
) -> tuple[str, list[PartSpec]]:  # fmt: skip
    """A shell script for cloud-init's vendor data that starts member.py, and its one-time parts.

    url: the node gateway's, https://ADDRESS ; the token is in a part: a config drive has no secret.
    check: the kind's, asked for ever. secrets: files whose content no report may tell. changes:
    what it does once the seed says that members come and go: later only names are told, and the
    content of these files. A part that comes late is waited for by the unit.
    """
    then = changes or Changes()
    config = {
        "gateway": url, "token": token, "ca": ca_pem, "cluster": cluster, "member": name,
        "steps": [asdict(step) for step in steps], "check": list(check), "secrets": list(secrets),
        **{verb: [asdict(step) for step in getattr(then, verb)] for verb in VERBS},
        "fresh": then.fresh, "try": list(then.tries),
    }  # fmt: skip
    shell = (
        "#!/bin/sh\n"
        + _file("/etc/systemd/system/seed-member.service", MEMBER_UNIT)
        + "systemctl enable --quiet seed-member.service\n"
        "systemctl start --no-block seed-member.service\n"
    )
    files = {
        f"{MEMBER}/member.py": (0o755, (_HERE / "member.py").read_bytes()),
        f"{MEMBER}/member.json": (0o600, json.dumps(config).encode()),
    }
    return shell, [PartSpec(path, path, mode, content) for path, (mode, content) in files.items()]


def vendor_data(seat: Seat) -> str:
    """cloud-init's vendor data: one script, or two as MIME parts in the order in which they run.

    Files and one-time parts come first, by a boothook: before cloud-init's modules, and so before
    any script of the caller's user-data. One text: of a list, which its documentation allows,
    cloud-init 25.1.4 says that it "has no attribute 'strip'", and each of its stages fails.
    """
    if not (seat.files or seat.parts):
        return seat.phone_home
    whole = MIMEMultipart(boundary="=== seed ===")
    for kind, text in (("cloud-boothook", _early(seat)), ("x-shellscript", seat.phone_home)):
        whole.attach(MIMEText(text, kind, "us-ascii" if text.isascii() else "utf-8"))
    return whole.as_string()


def parts_of(vendor_data: str) -> list[str]:
    """The scripts in it, for people and tests."""
    if not vendor_data.startswith("Content-Type: multipart/"):
        return [vendor_data]
    found = [part.get_payload(decode=True) for part in message_from_string(vendor_data).walk()]
    return [part.decode() for part in found if isinstance(part, bytes)]


def _early(seat: Seat) -> str:
    config = {
        "ca": seat.ca_pem,
        "files": [{"path": f.path, "mode": f.mode, "content": f.content} for f in seat.files],
        "parts": [
            {"name": p.name, "path": p.path, "mode": p.mode, "owner": p.owner, "url": p.url}
            for p in seat.parts
        ],
    }
    return (
        "#cloud-boothook\n#!/bin/sh\n"
        # A boothook runs at every boot, this one at the first.
        "done=/var/lib/cloud/instance/sem/seed_early\n[ ! -e $done ] || exit 0\n"
        f"umask 077\nmkdir -p {_KEPT}\n"
        + _file(f"{_KEPT}/early.json", json.dumps(config))
        + _file(f"{_KEPT}/early.py", (_HERE / "early.py").read_text())
        + f"python3 {_KEPT}/early.py {_KEPT}/early.json\nmkdir -p ${{done%/*}}\nsync\n: >$done\n"
    )


def _file(path: str, content: str) -> str:
    """Shell that writes it as it is."""
    return f"cat >{path} <<'SEED-EOF'\n{content.rstrip()}\nSEED-EOF\n"
