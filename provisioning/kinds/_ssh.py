"""A cluster's own SSH key, by which Ansible on the Seed machine gets onto its nodes."""

from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEYS: Final = "/root/.ssh/authorized_keys2"
"""sshd reads it beside authorized_keys (sshd_config(5), AuthorizedKeysFile), which is
cloud-init's."""
KEY: Final = "env/ssh_key"
"""ansible-runner gives it to an agent of its own (its documentation, "Input directory")."""
KNOWN: Final = (
    "-o StrictHostKeyChecking=yes -o UserKnownHostsFile={{ inventory_dir }}/../known_hosts"
)
"""Whose host key the proof did not tell is not spoken to."""


def new_key(name: str) -> dict[str, str]:
    """ "ssh": a private key in OpenSSH's format, "ssh.pub": its public half."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return {"ssh": private.decode(), "ssh.pub": f"{public.decode()} seed-{name}\n"}


def known_hosts(pairs: Iterable[tuple[str, Iterable[str]]]) -> str:
    """pairs: address, its host keys."""
    lines = [f"{address} {key}\n" for address, keys in pairs for key in keys]
    return "".join(sorted(lines))
