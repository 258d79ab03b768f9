"""Which container images a manifest of Kubernetes runs."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

_YAML: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LISTS: Final = ("containers", "initContainers")


@lru_cache(maxsize=64)
def named(path: Path, _sha256: str) -> tuple[str, ...]:
    """Of a file with this digest, sorted, each once. Nothing of what is no YAML: `seed bundle make`
    took none such."""
    try:
        with path.open("rb") as file:
            return tuple(sorted({*_images([*yaml.load_all(file, _YAML)])}))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return ()


def _images(value: Any) -> Iterator[str]:  # noqa: ANN401
    """Of all pod specs in it, wherever they are."""
    if isinstance(value, list):
        for one in value:
            yield from _images(one)
    if not isinstance(value, dict):
        return
    for key, one in value.items():
        if key in _LISTS and isinstance(one, list):
            images = (c.get("image") for c in one if isinstance(c, dict))
            yield from (image for image in images if isinstance(image, str))
        elif isinstance(one, dict | list):
            yield from _images(one)
