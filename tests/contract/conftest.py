"""The longest comes first: else the last process works alone for minutes."""

import pytest

LONGEST = "test_schemathesis.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)
