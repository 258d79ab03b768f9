"""seed cluster kubeconfig, seed cluster check."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from seed import show
from seed.client import Seed, TooLong
from seed.commands.door import REFUSED, client, err, fail, part

LOOK_SECONDS: Final = 1.0
COLUMNS: Final = {"name": "CHECK", "state": "STATE", "seconds": "SECONDS", "sentence": "WHAT"}
Timeout = Annotated[int, typer.Option(min=1, help="Seconds to wait at most.")]


def kubeconfig(
    name: str,
    out: Annotated[
        str, typer.Option(help="File to write, NAME.kubeconfig if left out; - to print it.")
    ] = "",
    timeout: Timeout = 600,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Get into a cluster's Kubernetes API for 12 hours, with a key that is made here.

    Example: seed cluster kubeconfig web && kubectl --kubeconfig web.kubeconfig get nodes
    """
    from ipxe.render import write_atomic  # Jinja2: this verb's alone
    from provisioning import pki

    file = None if out == "-" else Path(out or f"{part(name)}.kubeconfig").expanduser()
    if file:
        _may_be_written(file, name)
    api, key = client(), ec.generate_private_key(ec.SECP256R1())
    asked = api.create(f"/clusters/{part(name)}/certificates", {"csr": _request(key)})
    path = f"/clusters/{part(name)}/certificates/{asked['id']}"
    made = followed(api, path, asked, timeout, lambda now: now["state"] == "signed", _waits)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    text = pki.kubeconfig(
        made["cluster"], made["server"], made["ca"], made["who"], made["certificate"], plain
    )
    if file is None:
        as_json = output is show.Format.JSON
        typer.echo(json.dumps(yaml.safe_load(text), indent=2) if as_json else text.rstrip())
        return
    try:
        write_atomic(file, text, 0o600)
    except OSError as problem:
        fail(f"cannot write {file}: {problem.strerror}", "Name another: `--out FILE`.")
    facts = {key: made[key] for key in ("cluster", "server", "who", "expires_at")}
    show.one(facts | {"file": str(file)}, output)


def check(name: str, timeout: Timeout = 600, output: show.Output = show.Format.TABLE) -> None:
    """Whether a cluster works: its nodes, a pod, DNS, a service, a volume. Ends with 1 if not.

    Example: seed cluster check web
    """
    tried("clusters", name, timeout, output)


def tried(nouns: str, name: str, timeout: int, output: show.Format) -> None:
    """Ask for a check and show what it found. nouns: as in the path."""
    api = client()
    asked = api.post(f"/{nouns}/{part(name)}/checks")
    path = f"/{nouns}/{part(name)}/checks/{asked['id']}"
    found = followed(api, path, asked, timeout, lambda now: now["state"] != "running", _goes_on)
    if output is show.Format.TABLE:
        show.rows(found["items"], COLUMNS, output)
    else:
        show.one(found, output)
    if found["state"] != "ok":
        raise typer.Exit(REFUSED)


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    """Its subject does not count: Seed knows who asks."""
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return asked.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _may_be_written(file: Path, name: str) -> None:
    """Nobody's other kubeconfig is lost: one may hold the only key to a cluster."""
    if not file.exists():
        return
    try:
        there = [one["name"] for one in yaml.safe_load(file.read_text())["clusters"]]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        there = []
    if there != [name]:
        fail(
            f"{file} is there, and is no kubeconfig of {name} alone", "Name another: `--out FILE`."
        )


def followed(
    api: Seed,
    path: str,
    seen: dict[str, Any],
    timeout: int,
    over: Callable[[dict[str, Any]], bool],
    tell: Callable[[dict[str, Any]], str],
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    with err.status("...") as progress:
        while not over(seen):
            if time.monotonic() > deadline:
                noun = path.split("/")[1].removesuffix("s")
                name = path.split("/")[2]
                raise TooLong(f"{tell(seen)}, after {timeout} s", f"`seed {noun} show {name}`")
            progress.update(show.cell(tell(seen)))
            time.sleep(LOOK_SECONDS)
            seen = api.get(path)
    return seen


def _waits(seen: dict[str, Any]) -> str:
    return str(seen["detail"])


def _goes_on(seen: dict[str, Any]) -> str:
    late = [f"{i['name']}: {i['sentence'] or '...'}" for i in seen["items"] if not i["state"]]
    return f"{seen['cluster']} is being checked" + (f": {late[0]}" if late else "")
