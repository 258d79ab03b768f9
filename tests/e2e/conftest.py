import os

import pytest

from tests.fakes.turn import Turn


@pytest.fixture(scope="session")
def turn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Turn:
    several = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
    chain = any(item.path.stem == "test_chain" for item in request.session.items)
    # Of pytest-xdist's processes each has its own folder in one that is all of theirs.
    return Turn(tmp_path_factory.getbasetemp().parent, together=several and chain)
