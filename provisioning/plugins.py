"""Find plugins: one module that states PLUGIN is one more of its kind."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any


def load(package: ModuleType) -> dict[str, Any]:
    """All plugins of `package` by name. Fails at start-up, never at first use.

    A module whose name begins with "_" belongs to a plugin beside it.
    """
    found: dict[str, Any] = {}
    for info in iter_modules(package.__path__, package.__name__ + "."):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        plugin = import_module(info.name).PLUGIN
        if plugin.name in found:
            raise ValueError(f"two plugins are named {plugin.name!r}: see {info.name}")
        found[plugin.name] = plugin
    return found
