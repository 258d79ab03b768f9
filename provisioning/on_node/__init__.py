"""What runs on a handed-out server. Self-contained: the server has Python 3 and nothing of ours."""

import json
from pathlib import Path

_SCRIPT = Path(__file__).with_name("phone_home.py")


def phone_home(url: str, token: str, ca_pem: str) -> str:
    """A shell script for cloud-init's vendor data that starts the proof once cloud-init is done.

    It starts a unit of its own, because cloud-init's result is only known after all its scripts.
    """
    config = json.dumps({"url": url, "token": token, "ca": ca_pem})
    return (
        "#!/bin/sh\n"
        "umask 077\nmkdir -p /run/seed\n"
        f"cat >/run/seed/phone-home.json <<'SEED-EOF'\n{config}\nSEED-EOF\n"
        f"cat >/run/seed/phone-home.py <<'SEED-EOF'\n{_SCRIPT.read_text()}SEED-EOF\n"
        "systemd-run --quiet --no-block --collect --unit=seed-phone-home"
        " python3 /run/seed/phone-home.py\n"
    )
