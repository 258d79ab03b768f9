"""Text that installers' files are made of."""

from ipaddress import IPv6Address, ip_address
from typing import Any

import yaml


def url_host(host: str) -> str:
    """An address, or a name, as a URL has it."""
    try:
        return f"[{host}]" if isinstance(ip_address(host), IPv6Address) else host
    except ValueError:
        return host


def yaml_of(told: Any) -> str:  # noqa: ANN401
    return yaml.safe_dump(told, sort_keys=False, width=1_000_000)
