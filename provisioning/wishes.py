"""What a claim asks for, checked before anything else is asked. Each refusal says how to write it.

The shapes are ClaimSpec's; here is what a shape cannot say.
"""

import re
from datetime import datetime, timedelta
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from provisioning import disks, root_device, user_data
from provisioning.errors import Invalid
from provisioning.models import ClaimSpec
from provisioning.names import NAME

AHEAD: Final = timedelta(days=3650)
LATE: Final = timedelta(minutes=5)  # a clock that is behind, a request that was under way
SHORTEST: Final = timedelta(minutes=1)
DOMAINS: Final = ("rack", "feed", "switch")
TRAIT: Final = r"^[A-Z0-9_]{1,255}$"  # os-traits, placement's rule
RACK: Final = r"^[^\x00-\x1f\x7f]{1,255}$"
HOSTNAMES: Final = r"^[a-z0-9-]*(\{n(:0[1-4])?\}[a-z0-9-]*)?$"
MANY: Final = 500
"""Of traits, labels, racks or nodes."""
KEYS: Final = 100
DISKS: Final = 32
KERNEL_ARGS: Final = 32
VALUE: Final = 63
"""Characters of a label's value."""
_HOST = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")  # RFC 1123, 63 characters


def check(spec: ClaimSpec, keys: bool = True) -> None:
    """Raises Invalid for what cannot be, whatever nodes there are."""
    if keys:
        _keys(spec.ssh_keys)
    _words(spec)
    _together(spec)
    _hostnames(spec)
    root_device.check(spec.root_device)
    disks.check(spec)
    if spec.user_data:
        user_data.check(spec.user_data)


def check_times(spec: ClaimSpec, at: datetime) -> None:
    """Raises Invalid for a lease that is over before it begins, or begins in the past."""
    for name, value in (("starts_at", spec.starts_at), ("ends_at", spec.ends_at)):
        check_time(name, value, at)
    if spec.starts_at and spec.starts_at < at - LATE:
        raise Invalid("starts_at is in the past", "Leave it out to begin now.")
    if spec.ends_at and spec.lease_seconds:
        raise Invalid("ends_at and lease_seconds say the same twice", "Give one of them.")
    begin = max(spec.starts_at or at, at)
    if spec.ends_at and spec.ends_at < begin + SHORTEST:
        raise Invalid(
            "the claim would end before it begins", "Give an ends_at at least a minute later."
        )


def check_time(name: str, value: datetime | None, at: datetime) -> None:
    if value is None:
        return
    if value.tzinfo is None:
        raise Invalid(f"{name} has no time zone", f"Write it like {at:%Y-%m-%dT%H:%M:%SZ}.")
    plain, today = value.replace(tzinfo=None), at.replace(tzinfo=None)
    if not today - AHEAD < plain < today + AHEAD:  # far from where arithmetic overflows
        raise Invalid(f"{name} is more than ten years away", "Correct the year.")


def _keys(keys: list[str]) -> None:
    if not keys:
        raise Invalid(
            "no SSH key was given, nobody could log in",
            "Add one: --ssh-key ~/.ssh/id_ed25519.pub.",
        )
    if len(keys) > KEYS:
        raise Invalid(f"more than {KEYS} SSH keys", "Give those that are needed.")
    for number, key in enumerate(keys, 1):
        if "PRIVATE KEY" in key:
            raise Invalid(
                f"SSH key {number} is a private key", "Give the .pub file and change that key pair."
            )
        try:
            if "\n" in key.strip() or "\r" in key.strip():
                raise ValueError("more than one line")
            load_ssh_public_key(key.strip().encode())
        except (ValueError, UnsupportedAlgorithm) as err:
            raise Invalid(
                f"SSH key {number} is not an OpenSSH public key",
                "Give one line like `ssh-ed25519 AAAA... name`, as in a .pub file.",
            ) from err


def _words(spec: ClaimSpec) -> None:
    for trait in spec.traits:
        if not re.fullmatch(TRAIT, trait):
            raise Invalid(
                f"{trait[:40]!r} is no trait", "Traits are A-Z, 0-9 and '_', like CUSTOM_GPU."
            )
    for key, value in spec.labels.items():
        if not re.fullmatch(NAME, key) or len(value) > VALUE or not value.isprintable():
            raise Invalid(
                f"the label {key[:40]!r} is not key=value",
                "A key of letters, digits, '.', '_', '-'; a value of at most 63 characters.",
            )
    _names(spec)


def _names(spec: ClaimSpec) -> None:
    for rack in spec.racks:
        if not re.fullmatch(RACK, rack):
            raise Invalid(f"{rack[:40]!r} is no rack", "See yours: `seed rack show`.")
    for name in spec.nodes:
        if not re.fullmatch(NAME, name):
            raise Invalid(f"{name[:40]!r} is no node", "See what there is: `seed node list`.")
    if max(map(len, (spec.traits, spec.labels, spec.racks, spec.nodes))) > MANY:
        raise Invalid(f"more than {MANY} traits, labels, racks or nodes", "Give fewer.")


def _together(spec: ClaimSpec) -> None:
    if spec.spread and spec.spread not in DOMAINS:
        raise Invalid(f"spread cannot be {spec.spread[:40]!r}", f"It is one of {DOMAINS}.")
    if spec.pack and spec.pack != "rack":
        raise Invalid(f"pack cannot be {spec.pack[:40]!r}", "It is `rack`, or left out.")
    if spec.pack and spec.spread == "rack":
        raise Invalid("spread over racks and packed in one", "Leave one of the two out.")
    if len(set(spec.nodes)) != len(spec.nodes):
        raise Invalid("a node is named twice", "Name each node once.")
    if spec.nodes and len(spec.nodes) < spec.count:
        raise Invalid(
            f"{spec.count} nodes of the {len(spec.nodes)} that are named",
            "Name at least as many as `count`.",
        )


def _hostnames(spec: ClaimSpec) -> None:
    if not spec.hostnames:
        return
    if not re.fullmatch(HOSTNAMES, spec.hostnames):
        raise Invalid(
            f"hostnames cannot be {spec.hostnames[:60]!r}",
            "Write it like db-{n} or db-{n:02}: a-z, 0-9, '-' and one {n}.",
        )
    if spec.count > 1 and "{" not in spec.hostnames:
        raise Invalid("all nodes would have one host name", "Put {n} into `hostnames`.")
    for n in (0, spec.count - 1):
        if not _HOST.match(spec.hostnames.format(n=n)):
            raise Invalid(
                f"{spec.hostnames.format(n=n)[:70]!r} is no host name",
                "At most 63 characters, a letter or digit first and last.",
            )
