"""What Ironic is started by: its one PBKDF2 becomes a keyed hash of that process alone.

That its writers take the lock first, and how often it asks an agent, is seen in
tests/integration/test_host_appliance.py.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seed.host import ironic_start

ASKED = ("sha512", b"word", b"https://192.0.2.1" * 4, 600_000)
PROGRAM = f"""
import hashlib, json, sys
told = [hashlib.pbkdf2_hmac(*{ASKED!r}).hex() for _ in range(2)]
print(json.dumps([told, sys.argv, __name__]))
"""
CONF = """
class CONF:
    @staticmethod
    def set_default(*told, **group):
        pass
"""


API = """
from contextlib import contextmanager

@contextmanager
def _session_for_write():
    yield
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment's bin with a program `ironic` that tells what it was started with."""
    package = tmp_path / "lib" / "ironic" / "db" / "sqlalchemy"
    package.mkdir(parents=True)
    (package / "api.py").write_text(API, encoding="utf-8")
    (package.parents[1] / "conf.py").write_text(CONF, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "lib"), *sys.path]))
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "ironic").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def _started(programs: Path) -> tuple[list[str], list[str], str]:
    argv = [str(programs / "python"), ironic_start.__file__, "--config-file", "x"]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=30)
    told, arguments, name = json.loads(done.stdout)
    return told, arguments, name


def test_ironic_runs_as_if_started_itself(programs: Path) -> None:
    _, arguments, name = _started(programs)
    assert (arguments, name) == ([str(programs / "ironic"), "--config-file", "x"], "__main__")


def test_the_same_question_has_the_same_answer_in_one_process_only(programs: Path) -> None:
    (first, again), _, _ = _started(programs)
    (other, _), _, _ = _started(programs)
    assert first == again
    assert first != other
    assert first != hashlib.pbkdf2_hmac(*ASKED).hex()
    assert len(bytes.fromhex(first)) == len(hashlib.pbkdf2_hmac(*ASKED))


@pytest.mark.parametrize("place", range(len(ASKED)))
def test_each_part_of_the_question_counts(place: int) -> None:
    other = [*ASKED]
    other[place] = ("sha256", b"Word", b"https://192.0.2.2" * 4, 600_001)[place]
    assert ironic_start.fingerprint(*ASKED) != ironic_start.fingerprint(*other)  # type: ignore[arg-type]
