"""`seed init`: look at the interfaces, choose address pools, write seed.toml."""

import json
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from ipxe.render import write_atomic
from provisioning.errors import Conflict, Invalid
from seed.host import netns
from seed.settings import OutOfBandWire, ProvisioningWire, Settings, Wire, config_file

_MIN_POOL = 12  # addresses: what a /28 leaves beside ours
_MAX_POOL = 4096


class _Draft(Settings):
    """Settings from what `seed init` was told alone, not from an older seed.toml."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def init(
    *,
    management: str,
    provisioning: str,
    out_of_band: str,
    namespace: str = "",
    force: bool = False,
    path: Path | None = None,
    **others: Any,
) -> tuple[Settings, list[str]]:
    """Write seed.toml for three interfaces; return the settings and warnings, one sentence each.

    others: further settings by name, e.g. state_dir. Raises Invalid for an interface that does not
    exist, has no IPv4 address, or has too small a network; Conflict if another configuration is
    already there and `force` is not given.
    """
    seen = netns.addresses(namespace)
    names = {"management": management, "provisioning": provisioning, "out_of_band": out_of_band}
    found = {role: address_of(role, name, seen, namespace) for role, name in names.items()}
    values: dict[str, Any] = {
        role: Wire(interface=names[role], address=address) for role, address in found.items()
    }
    pools = choose_pools(found["provisioning"])
    values["out_of_band"] = OutOfBandWire(interface=out_of_band, address=found["out_of_band"])
    values["provisioning"] = ProvisioningWire(
        interface=provisioning, address=found["provisioning"], **pools
    )
    try:
        settings = _Draft(**values, namespace=namespace, **others)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"{where}: {first['msg']}", "see docs/appliance.md") from error
    _write(path or config_file(), to_toml(settings), force)
    return settings, warnings(names)


def address_of(
    role: str, name: str, seen: dict[str, list[IPv4Interface]], namespace: str = ""
) -> IPv4Interface:
    """The first IPv4 address of interface `name`. Raises Invalid with what would help."""
    role = role.replace("_", "-")
    where = f"-n {namespace} " if namespace else ""
    if name not in seen:
        others = ", ".join(sorted(seen)) or "none"
        raise Invalid(
            f"the {role} interface {name} does not exist; there are: {others}",
            f"ip {where}link show",
        )
    if not seen[name]:
        raise Invalid(
            f"the {role} interface {name} has no IPv4 address",
            f"ip {where}address add 192.0.2.1/24 dev {name}",
        )
    return seen[name][0]


def choose_pools(address: IPv4Interface) -> dict[str, IPv4Address]:
    """Two pools in the network of `address`, the one for unknown MACs at the upper end.

    Taken from the longer run of addresses below or above ours; in networks of 64 and more the first
    8 of it stay free for switches and the like. Raises Invalid for less than a /28.
    """
    network = address.network
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    own = int(address.ip)
    start, end = max((first, own - 1), (own + 1, last), key=lambda run: run[1] - run[0])
    if network.num_addresses >= 64:
        start += 8
    end = min(end, start + _MAX_POOL - 1)
    size = end - start + 1
    if size < _MIN_POOL:
        raise Invalid(
            f"the provisioning network {network} is too small: {max(size, 0)} addresses in a row, "
            f"{_MIN_POOL} are needed",
            f"give it a /28 or larger: ip address add {address.ip}/24 dev INTERFACE",
        )
    unknown = min(max(size // 5, 4), 64)
    return {
        "pool_start": IPv4Address(start),
        "pool_end": IPv4Address(end - unknown),
        "unknown_start": IPv4Address(end - unknown + 1),
        "unknown_end": IPv4Address(end),
    }


def warnings(names: dict[str, str]) -> list[str]:
    """One sentence per interface with more than one role."""
    roles: dict[str, list[str]] = {}
    for role, name in names.items():
        roles.setdefault(name, []).append(role.replace("_", "-"))
    return [
        f"{name} is {' and '.join(which)} at once: servers that boot can reach what should be "
        "kept from them"
        for name, which in roles.items()
        if len(which) > 1
    ]


def to_toml(settings: Settings) -> str:
    """seed.toml with every setting written out. JSON strings and numbers are TOML ones."""
    plain: dict[str, Any] = settings.model_dump(mode="json")
    lines = ["# Written by seed init."]
    lines += [f"{k} = {_toml(v)}" for k, v in plain.items() if not isinstance(v, dict)]
    for name, table in plain.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:  # noqa: ANN401
    """One value; a table within a table is written on its line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _write(path: Path, text: str, force: bool) -> None:
    if path.exists() and not force and path.read_text(encoding="utf-8") != text:
        raise Conflict(f"{path} already holds another configuration", "seed init --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
