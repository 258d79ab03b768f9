"""Run one recipe, or reuse what it made from the same inputs.

<cache_dir>/<recipe>/<digest>/{files, build.json, contents.json}. A build happens in a folder of
its own beside that and is renamed at the end, so nothing half-made is ever seen.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import images.recipes
from images.recipes import Made, Recipe
from images.workbench import Progress, Workbench, remove
from provisioning import plugins
from provisioning.errors import HostError, NotFound
from provisioning.image import Firmware, Format

GIB = 1 << 30
BUILD = "build.json"
CONTENTS = "contents.json"


class Build(BaseModel):
    """What one run of a recipe made. `files`: role -> file name in `directory`.

    The rest is as in provisioning.image.Image; `packages`: Debian package -> version.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    digest: str
    directory: Path
    architecture: str
    firmware: tuple[Firmware, ...]
    format: Format
    files: dict[str, str]
    virtual_size: int
    min_disk_gib: int
    built_at: datetime
    build_seconds: float
    weights: dict[str, int]
    packages: dict[str, str]
    ssh_user: str | None = None


def recipes() -> dict[str, Recipe]:
    """All recipes by name."""
    return plugins.load(images.recipes)


def build(
    recipe_name: str, cache_dir: Path, mirror: tuple[str, ...], progress: Progress, log_dir: Path
) -> Build:
    """Make the image of the recipe with this name, or find it made already; see build_recipe.

    Raises NotFound for an unknown recipe.
    """
    return build_recipe(_recipe(recipe_name), cache_dir, mirror, progress, log_dir)


def build_recipe(
    recipe: Recipe, cache_dir: Path, mirror: tuple[str, ...], progress: Progress, log_dir: Path
) -> Build:
    """Make an image, or find it made already.

    mirror: apt source lines (images.mirror). progress: told one line per step.
    A second build of the same recipe waits for the first and takes its result.
    Raises HostError when this machine cannot build; the log stays in `log_dir`.
    """
    digest = digest_of(recipe)
    shelf = cache_dir / recipe.name
    shelf.mkdir(parents=True, exist_ok=True)
    log_dir.mkdir(parents=True, exist_ok=True)
    with _alone(shelf / "lock", lambda: progress(f"{recipe.name}: waiting for another build")):
        done = shelf / digest
        if not (done / BUILD).exists():
            log = log_dir / f"build-{recipe.name}.log"
            _make(
                recipe, digest, shelf, Workbench(recipe.name, shelf, shelf, mirror, log, progress)
            )
        return load(done)


def load(directory: Path) -> Build:
    """The finished build in a folder of the cache."""
    described = json.loads((directory / BUILD).read_text())
    return Build.model_validate({**described, "directory": directory})


def digest_of(recipe: Recipe) -> str:
    """12 hex digits over all that decides what comes out; the mirror is not part of it."""
    total = hashlib.sha256(
        json.dumps([recipe.suite, recipe.architecture, recipe.packages]).encode()
    )
    for path in recipe.inputs:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


def _recipe(name: str) -> Recipe:
    known = recipes()
    if name not in known:
        names = ", ".join(sorted(known))
        raise NotFound(
            f"there is no recipe {name!r}; there are: {names}",
            f"seed image build {sorted(known)[0]}",
        )
    return known[name]


def _make(recipe: Recipe, digest: str, shelf: Path, bench: Workbench) -> None:
    """Build in a scratch folder, then move the result to its place in one rename."""
    _check_host(recipe, shelf)
    started = time.monotonic()
    for left in shelf.glob("work-*"):  # of a build that was killed: the lock says none runs now
        remove(left)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=shelf))
    out = work / "out"
    out.mkdir()
    bench = Workbench(bench.name, work, out, bench.sources, bench.log, bench.progress)
    bench.log.write_text("")
    try:
        made = recipe.make(bench)
        _describe(recipe, digest, made, out, time.monotonic() - started)
        remove(shelf / digest)
        out.rename(shelf / digest)
    finally:
        remove(work)


def _describe(recipe: Recipe, digest: str, made: Made, out: Path, seconds: float) -> None:
    result = Build(
        recipe=recipe.name,
        digest=digest,
        directory=out,
        architecture=recipe.architecture,
        firmware=recipe.firmware,
        format=recipe.format,
        files=dict(made.files),
        virtual_size=made.virtual_size,
        min_disk_gib=recipe.min_disk_gib,
        built_at=datetime.now(UTC).replace(microsecond=0),
        build_seconds=round(seconds, 1),
        weights=dict(made.weights),
        packages=dict(made.packages),
        ssh_user=recipe.ssh_user,
    )
    (out / CONTENTS).write_text(json.dumps(asdict(made.contents), indent=1))
    (out / BUILD).write_text(result.model_dump_json(indent=1, exclude={"directory"}))


def _check_host(recipe: Recipe, shelf: Path) -> None:
    if os.geteuid() != 0:
        raise HostError(
            f"building {recipe.name} needs root: a root file system has files of many owners",
            f"sudo seed image build {recipe.name}",
        )
    free = shutil.disk_usage(shelf).free
    if free < recipe.scratch_gib * GIB:
        raise HostError(
            f"building {recipe.name} needs {recipe.scratch_gib} GiB free in {shelf}, "
            f"there are {free / GIB:.1f}",
            f"df -h {shelf}",
        )


@contextmanager
def _alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock that the kernel drops when this process dies."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
