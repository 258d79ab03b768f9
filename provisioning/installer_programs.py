"""Programs of installers' environments that make secrets: run once, as an overcloud is sealed."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from provisioning.errors import SeedError
from provisioning.installers import FILE, Program


class ProgramFailed(SeedError):
    code: ClassVar[str] = "installer-program-failed"
    status: ClassVar[int] = 503
    retryable: ClassVar[bool] = True


def run(program: Program, runner: Path, project: Path) -> str:
    """The secret. runner: ansible-runner, beside which the program lies.

    Its file is 0600 in a folder of its own, /dev/shm where there is one, and is gone afterwards;
    the program learns no more than its path.
    """
    shared = Path("/dev/shm")  # noqa: S108 - a folder of mode 0700 is made in it
    home = shared if os.access(shared, os.W_OK) else None
    path = runner.parent / program.argv[0]
    remedy = f"Look at {path} {' '.join(program.argv[1:])}."
    with TemporaryDirectory(prefix="seed-", dir=home) as folder:
        file = Path(folder) / program.secret
        file.touch(0o600)
        file.write_bytes((project / program.template).read_bytes())
        argv = [str(path), *(str(file) if word == FILE else word for word in program.argv[1:])]
        environment = {"PATH": f"{path.parent}:/usr/bin:/bin", "HOME": folder, "LC_ALL": "C.UTF-8"}
        try:
            subprocess.run(
                argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, umask=0o077,
                timeout=program.seconds, check=True,
            )  # fmt: skip
            return file.read_text()
        except subprocess.TimeoutExpired as error:
            says = f"{program.argv[0]} did not end within {program.seconds} s"
            raise ProgramFailed(says, remedy) from error
        except (OSError, subprocess.CalledProcessError) as error:
            raise ProgramFailed(f"{program.argv[0]} made no {program.secret}", remedy) from error
