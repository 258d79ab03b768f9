"""Run one recipe, or reuse what it made from the same inputs.

<cache_dir>/<recipe>/<digest>/{files, build.json, contents.json, sbom.spdx.json}. A build happens in
a folder of its own beside that and is renamed at the end, so nothing half-made is ever seen.
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
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import images.recipes
from images import layers, sbom
from images.extras import NO_EXTRAS, Extras
from images.recipes import Made, Recipe
from images.workbench import Progress, Workbench, keep_newest, remove
from provisioning import plugins
from provisioning.errors import HostError, NotFound
from provisioning.image import Firmware, Format

GIB = 1 << 30
BUILD = "build.json"
CONTENTS = "contents.json"
SBOM = "sbom.spdx.json"
LOGS = 20
"""How many logs are kept of each recipe."""
BUILDS = 3
"""How many builds are kept of each recipe: those that were asked for last."""


class Build(BaseModel):
    """What one run of a recipe made. `files`: role -> file name in `directory`.

    The rest is as in provisioning.image.Image. packages, tools: Debian package -> version, of the
    image and of the programs that wrote it. phases: step -> seconds. log: all that was said.
    extras: digest of the site's extras, "" for none.
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
    kernel: str = ""
    services: tuple[str, ...] = ()
    root_raid: bool = False
    extras: str = ""
    tools: dict[str, str] = {}
    phases: dict[str, float] = {}
    log: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """extras: what this site adds. fresh: build although it is in the cache, with the packages
    that the mirror has now. mirror: where a distribution that is not Debian comes from."""

    extras: Extras = NO_EXTRAS
    fresh: bool = False
    mirror: str = ""


AS_IT_IS = Wanted()


def recipes() -> dict[str, Recipe]:
    """All recipes by name."""
    return plugins.load(images.recipes)


def build(
    recipe_name: str,
    cache_dir: Path,
    mirror: tuple[str, ...],
    progress: Progress,
    log_dir: Path,
    wanted: Wanted = AS_IT_IS,
) -> Build:
    """Make the image of the recipe with this name, or find it made already; see build_recipe.

    Raises NotFound for an unknown recipe.
    """
    return build_recipe(_recipe(recipe_name), cache_dir, mirror, progress, log_dir, wanted)


def build_recipe(
    recipe: Recipe,
    cache_dir: Path,
    mirror: tuple[str, ...],
    progress: Progress,
    log_dir: Path,
    wanted: Wanted = AS_IT_IS,
) -> Build:
    """Make an image, or find it made already.

    mirror: apt source lines (images.mirror). progress: told one line per step.
    A second build of the same recipe waits for the first and takes its result.
    Raises HostError when this machine cannot build, Invalid for extras the recipe cannot have; the
    log stays in `log_dir`.
    """
    layers.check(wanted.extras, recipe.takes, recipe.name, mirror)
    digest = digest_of(recipe, wanted.extras)
    shelf = cache_dir / recipe.name
    shelf.mkdir(parents=True, exist_ok=True)
    before = _last(shelf)
    log_dir.mkdir(parents=True, exist_ok=True)
    with _alone(shelf / "lock", lambda: progress(f"{recipe.name}: waiting for another build")):
        done = shelf / digest
        if wanted.fresh or not (done / BUILD).exists():
            bench = Workbench(
                recipe.name,
                shelf,
                shelf,
                mirror,
                log_dir / f"{recipe.name}-{digest}.log",
                progress,
                shelf=shelf,
                extras=wanted.extras,
                inputs=digest,
                fresh=wanted.fresh,
                mirror=wanted.mirror,
                expected=before.phases if before else {},
            )
            _make(recipe, digest, shelf, bench)
            keep_newest(shelf, BUILD, BUILDS, "work-")
        else:
            os.utime(done / BUILD)
        return load(done)


def differences(old: Build, new: Build) -> list[str]:
    """What went into one build and not, or not so, into the other: one line each."""
    lines = []
    for what, before, after in (
        ("", old.packages, new.packages),
        ("tool ", old.tools, new.tools),
    ):
        for name in sorted({*before, *after}):
            was, now = before.get(name, "none"), after.get(name, "none")
            lines += [f"{what}{name}: {was} -> {now}"] if was != now else []
    return lines + ([f"inputs: {old.digest} -> {new.digest}"] if old.digest != new.digest else [])


def load(directory: Path) -> Build:
    """The finished build in a folder of the cache."""
    described = json.loads((directory / BUILD).read_text())
    return Build.model_validate({**described, "directory": directory})


def digest_of(recipe: Recipe, extras: Extras = NO_EXTRAS) -> str:
    """12 hex digits over all that was asked for. What the mirror had then is in Build.packages:
    the same digest, packages and tools make the same bytes."""
    total = hashlib.sha256(
        json.dumps([recipe.suite, recipe.architecture, recipe.packages]).encode()
    )
    for path in recipe.inputs:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    total.update(extras.digest().encode())
    return total.hexdigest()[:12]


def _last(shelf: Path) -> Build | None:
    """The newest build of a recipe; None if there is none, or one of another Seed's making."""
    try:
        found = sorted(shelf.glob(f"*/{BUILD}"), key=lambda path: path.stat().st_mtime)
        return load(found[-1].parent) if found else None
    except (OSError, ValueError):  # pydantic's is one
        return None


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
    work.chmod(0o755)
    out = work / "out"
    out.mkdir()
    bench = replace(bench, work=work, out=out)
    _open_log(recipe, bench)
    before = _last(shelf)
    try:
        made = recipe.make(bench)
        result = _describe(recipe, digest, made, bench, time.monotonic() - started)
        if before:
            bench.note(["since the last build:", *differences(before, result)])
        remove(shelf / digest)
        out.rename(shelf / digest)
    finally:
        bench.cleared()
        remove(work)


def _open_log(recipe: Recipe, bench: Workbench) -> None:
    """A log of its own for each build; the same build again goes on in it."""
    bench.note([f"=== {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {recipe.name} {bench.inputs}"])
    logs = sorted(
        (path for path in bench.log.parent.glob(f"{recipe.name}-????????????.log")),
        key=lambda path: path.stat().st_mtime,
    )
    for old in logs[:-LOGS]:
        remove(old)


def _describe(recipe: Recipe, digest: str, made: Made, bench: Workbench, seconds: float) -> Build:
    out = bench.out
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
        kernel=made.kernel,
        services=recipe.services,
        root_raid=recipe.root_raid,
        extras=bench.extras.digest(),
        tools=dict(made.tools),
        phases=bench.seconds(),
        log=str(bench.log),
    )
    (out / CONTENTS).write_text(json.dumps(asdict(made.contents), indent=1))
    (out / SBOM).write_text(json.dumps(sbom.document(recipe.name, recipe.suite, digest, made.bill)))
    (out / BUILD).write_text(result.model_dump_json(indent=1, exclude={"directory"}))
    for what, taken in result.phases.items():
        bench.note([f"{taken:7.1f} s  {what}"])
    return result


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
