"""Modules run three at a time (see the Makefile), each with namespaces and folders of its own.

The longest begin first, so that none of them is what everybody waits for at the end. They share the
machine's accounts: these are made once, before any of them asks for one.
"""

import os

import pytest

from seed.host import users

LONGEST = (
    "test_kind_swarm", "test_bad_input", "test_keystone", "test_changed_by_hand",
    "test_ipxe_firmware", "test_adoption", "test_lab",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and os.geteuid() == 0:
        users.ensure_accounts()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    """Its module's place in line; those of one module stay together, in their own order."""
    name = item.path.stem
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
