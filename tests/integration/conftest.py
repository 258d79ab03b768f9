"""Modules run two at a time (Makefile), each with namespaces and folders of its own.

They share the machine's accounts: these are made once, before any of them asks for one.
"""

import os

import pytest

from seed.host import users


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and os.geteuid() == 0:
        users.ensure_accounts()
