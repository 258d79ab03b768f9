"""Documents of networks and layouts as YAML, the way people write them."""

from typing import Any

import yaml

_ALONE = {"pools", "exclude", "racks", "nics"}  # a list of one may be written without a list


def written(stored: dict[str, Any]) -> str:
    return str(yaml.safe_dump(_short(stored), sort_keys=False, width=100))


def _short(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_short(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"min", "max"} and value["min"] == value["max"]:
        return value["min"]
    return {
        key: v[0] if key in _ALONE and isinstance(v, list) and len(v) == 1 else _short(v)
        for key, v in value.items()
    }
