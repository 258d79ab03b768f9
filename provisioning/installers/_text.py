"""Text that installers' files are made of."""

from typing import Any

import yaml


def yaml_of(told: Any) -> str:  # noqa: ANN401
    return yaml.safe_dump(told, sort_keys=False, width=1_000_000)
