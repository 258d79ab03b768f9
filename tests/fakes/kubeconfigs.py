"""What a person does to get into a cluster, with openssl in the place of our own verb."""

import subprocess
from datetime import datetime, timedelta

from provisioning import pki
from provisioning.pki import KUBECONFIG_LIFE, Pair, Person

P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
KEYS = {
    "P-256": P256,
    "P-384": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "Ed25519": ("-newkey", "ed25519"),
    "RSA 2048": ("-newkey", "rsa:2048"),
}
WEAK = {
    "P-521": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "secp256k1": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
    "RSA 1024": ("-newkey", "rsa:1024"),
    "Ed448": ("-newkey", "ed448"),
}


def a_request(how: tuple[str, ...] = P256, subject: str = "/O=system:masters/CN=root") -> str:
    """A PKCS #10 request, PEM; and before it, in one text, the private key."""
    done = subprocess.run(
        ["openssl", "req", "-new", "-noenc", "-subj", subject, "-keyout", "-", *how],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return done.stdout


def parted(made: str) -> tuple[str, str]:
    """(private key, request), each in PEM."""
    mark = "-----BEGIN CERTIFICATE REQUEST-----"
    key, _, request = made.partition(mark)
    return key, mark + request


def a_kubeconfig(
    ca: Pair, server: str, person: Person, now: datetime, life: timedelta = KUBECONFIG_LIFE
) -> str:
    key, request = parted(a_request())
    told = pki.client_certificate(ca, pki.own_key(request), person, now, life)
    return pki.kubeconfig("web", server, ca.public, person.name, told, key)
