"""seed cluster autoscaler ...: what a cluster's Cluster Autoscaler is started with."""

import base64
import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from seed import show
from seed.commands.door import USAGE, client, fail, part

SECRET: Final = "cluster-autoscaler-seed"  # noqa: S105  its name
NAMESPACE: Final = "kube-system"
MOUNT: Final = "/etc/cluster-autoscaler"
"""Where the Secret is seen in the autoscaler's pod."""
GRPC_TIMEOUT: Final = "30s"
"""A change waits for whoever writes; the autoscaler's own 5 s are for calls that only read."""
COLUMNS = {
    "cluster": "CLUSTER", "node_group": "NODE GROUP", "min": "MIN", "max": "MAX",
    "address": "ADDRESS", "expires_at": "UNTIL",
}  # fmt: skip


def autoscaler(
    name: str,
    least: Annotated[
        int | None, typer.Option("--min", min=0, help="Workers it leaves; else as before.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, help="Workers it makes; else as before.")
    ] = None,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="No autoscaler speaks for it from now on.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where its files go; else ./NAME-autoscaler.")
    ] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Let Cluster Autoscaler choose how many workers a cluster has: cloud-config and Secret for it.

    The key is made here and stays here. What an older call gave is good for nothing afterwards.

    Example: seed cluster autoscaler web --min 1 --max 5
    """
    if revoke:
        if least is not None or most is not None:
            fail("--revoke takes no --min and --max", "Leave them out.", USAGE)
        show.one(client().post(f"/clusters/{part(name)}:revoke-autoscaler", {}), output)
        return
    folder = directory or Path(f"{name}-autoscaler")
    _make_private(folder)
    key, csr = _request()
    asked: dict[str, Any] = {"csr": csr}
    asked |= {word: n for word, n in (("min", least), ("max", most)) if n is not None}
    given = client().post(f"/clusters/{part(name)}:autoscaler", asked)
    written = _write(folder, key, given)
    if output is show.Format.TABLE:
        show.rows([given | {"expires_at": given["expires_at"][:10]}], COLUMNS, output)
        typer.echo(f"kubectl apply -f {written['secret']}")
    else:
        told = {word: given[word] for word in COLUMNS}
        show.one(told | {word: str(path) for word, path in written.items()}, output)


def _make_private(folder: Path) -> None:
    """0700, whoever made it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        fail(f"cannot make {folder}: {error.strerror}", "Take another --directory.")
    if not os.access(folder, os.W_OK):
        fail(f"cannot write into {folder}", "Take another --directory.")


def _request() -> tuple[str, str]:
    """A new key of P-256 and a request signed with it, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = asked.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return pem, csr


def _write(folder: Path, key: str, given: dict[str, Any]) -> dict[str, Path]:
    from ipxe.render import write_atomic

    config = {
        "address": given["address"],
        "key": f"{MOUNT}/tls.key",
        "cert": f"{MOUNT}/tls.crt",
        "cacert": f"{MOUNT}/ca.crt",
        "grpc_timeout": GRPC_TIMEOUT,
    }
    files = {
        "cloud-config": yaml.safe_dump(config, sort_keys=False),
        "tls.key": key,
        "tls.crt": given["certificate"],
        "ca.crt": given["ca"],
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "type": "Opaque",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in files.items()},
    }
    for name, text in files.items():
        write_atomic(folder / name, text, 0o600)
    written = folder / "secret.yaml"
    write_atomic(written, yaml.safe_dump(secret, sort_keys=False, width=1_000_000), 0o600)
    return {"directory": folder, "secret": written}
