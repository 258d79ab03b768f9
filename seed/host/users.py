"""System users and groups, and who owns which folder and file, with which mode."""

import errno
import grp
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from provisioning.errors import HostError
from seed.host.paths import Paths
from seed.settings import Settings

GROUPS = ("seed", "seed-db")
"""Groups besides one per user. `seed`: people who may use the API's socket."""

USERS: dict[str, tuple[str, ...]] = {
    "seed-ironic": (),
    "seed-dnsmasq": (),
    "seed-nginx": (),
    "seed-api": ("seed", "seed-db", "seed-nginx"),
    "seed-reconciler": ("seed-db",),
    "seed-images": ("seed-db",),
    "seed-autoscaler": ("seed-db",),
}
"""User to its supplementary groups."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or file: owner, group, mode."""

    path: Path
    owner: str
    group: str
    mode: int


def folders(settings: Settings) -> tuple[Place, ...]:
    """Every folder, parents first."""
    paths = Paths(settings)
    log = settings.log_dir
    return (
        Place(paths.state, "root", "root", 0o755),
        # Sticky: the API makes and removes its own sockets here and nobody else's.
        Place(settings.run_dir, "root", "seed-api", 0o1775),
        Place(log, "root", "root", 0o755),
        Place(log / "nginx", "seed-nginx", "seed-nginx", 0o750),
        Place(log / "ironic", "seed-ironic", "seed-ironic", 0o750),
        Place(paths.config, "root", "root", 0o755),
        Place(paths.secrets, "root", "root", 0o711),
        Place(paths.tls, "root", "root", 0o755),
        Place(paths.keys, "root", "root", 0o755),
        Place(paths.db, "root", "seed-db", 0o2770),
        Place(paths.bmc_ca, "seed-reconciler", "seed-reconciler", 0o755),
        Place(paths.ansible, "seed-reconciler", "seed-reconciler", 0o700),
        Place(paths.tftp, "root", "root", 0o755),
        Place(paths.leases.parent, "root", "root", 0o755),
        Place(paths.hosts, "seed-reconciler", "seed-dnsmasq", 0o2750),
        Place(paths.nginx, "seed-nginx", "seed-nginx", 0o700),
        Place(settings.http_dir, "root", "root", 0o755),
        Place(paths.boot, "seed-reconciler", "seed-reconciler", 0o755),
        Place(settings.image_dir, "seed-images", "seed-images", 0o755),
        # By `seed bundle`, as root; the API and nginx read it.
        Place(paths.bundles, "root", "root", 0o755),
        Place(paths.registry, "root", "root", 0o755),
        # The API makes what comes in, seed-images reads and removes it.
        Place(paths.incoming, "seed-api", "seed-images", 0o2770),
        Place(paths.ironic_http, "seed-ironic", "seed-ironic", 0o755),
        Place(paths.ironic, "seed-ironic", "seed-ironic", 0o700),
        *(
            Place(paths.ironic / name, "seed-ironic", "seed-ironic", 0o700)
            for name in ("tmp", "master", "images", "certificates", "tftp", "lock")
        ),
    )


def files(settings: Settings) -> tuple[Place, ...]:
    """Files whose owner matters. Those that do not exist are passed over."""
    paths = Paths(settings)
    api, reconciler = map(paths.ironic_password, ("seed-api", "seed-reconciler"))
    return (
        Place(api, "root", "seed-api", 0o640),
        Place(reconciler, "root", "seed-reconciler", 0o640),
        *_keystone_login(settings),
        Place(paths.htpasswd, "root", "seed-ironic", 0o640),
        Place(paths.master_key, "seed-reconciler", "seed-reconciler", 0o600),
        Place(paths.master_pub, "root", "root", 0o644),
        Place(paths.images_key, "seed-images", "seed-images", 0o600),
        Place(paths.images_pub, "root", "root", 0o644),
        Place(paths.bmc_ca_key, "seed-reconciler", "seed-reconciler", 0o600),
        Place(paths.bmc_ca_pem, "root", "root", 0o644),
        Place(paths.autoscaler_key, "seed-api", "seed-api", 0o600),
        Place(paths.autoscaler_pem, "root", "root", 0o644),
        Place(paths.tls / "ca.key", "root", "root", 0o600),
        Place(paths.tls / "autoscaler.key", "seed-autoscaler", "seed-autoscaler", 0o600),
        Place(paths.tls / "gateway.key", "seed-nginx", "seed-nginx", 0o600),
        Place(paths.tls / "management.key", "seed-nginx", "seed-nginx", 0o600),
        Place(paths.leases, "seed-dnsmasq", "seed-dnsmasq", 0o644),
        Place(paths.ironic_db, "seed-ironic", "seed-ironic", 0o600),
        *(
            Place(paths.db / f"seed.db{suffix}", "root", "seed-db", 0o660)
            for suffix in ("", "-wal", "-shm")
        ),
    )


def _keystone_login(settings: Settings) -> tuple[Place, ...]:
    """Seed's user at Keystone, where there is one: the API alone speaks to it."""
    told = settings.keystone
    return (Place(told.credentials_file, "seed-api", "seed-api", 0o600),) if told.url else ()


def ensure_accounts() -> None:
    """Make users and groups. Safe to repeat."""
    for group in (*GROUPS, *USERS):
        _ensure_group(group)
    for user, groups in USERS.items():
        _ensure_user(user, groups)


def ensure(settings: Settings) -> None:
    """Make users, groups and folders, and put owners and modes right. Safe to repeat."""
    ensure_accounts()
    for place in folders(settings):
        place.path.mkdir(parents=True, exist_ok=True)
        _apply(place)
    account = pwd.getpwnam("seed-images")
    give_images(settings.image_dir, account.pw_uid, account.pw_gid)
    Paths(settings).leases.touch()
    fix_files(settings)


def give_images(image_dir: Path, uid: int, gid: int) -> None:
    """Folders of images and their links `current`, which root may have made: seed-images removes
    what is in them, and nginx follows a link only to what has the same owner. Never files, which
    may be a cache's own under a second name; never through a link that somebody put there.
    """
    for root, names, _, fd in os.fwalk(image_dir, follow_symlinks=False):
        for name in names:  # links to folders are among them
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        if Path(root) != image_dir:
            names.clear()


def fix_files(settings: Settings) -> None:
    """Put owners and modes of single files right."""
    for place in files(settings):
        if place.path.exists():
            _apply(place)


def wrong(place: Place) -> str:
    """What is wrong with the owner or mode of `place`; empty if nothing."""
    try:
        status = place.path.stat()
        owner = pwd.getpwnam(place.owner).pw_uid
        group = grp.getgrnam(place.group).gr_gid
    except (OSError, KeyError) as error:
        return f"{place.path}: {error}"
    if (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (owner, group, place.mode):
        return ""
    return f"{place.path} is not {place.owner}:{place.group} {place.mode:o}"


def _apply(place: Place) -> None:
    """chown, then chmod (chown clears setgid). Never through a symlink.

    By O_PATH: whoever closes a file that he opened drops all POSIX locks that his process has on
    it (fcntl(2)), and SQLite's are such; an O_PATH descriptor takes none with it.
    """
    fd = os.open(place.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(place.path))
        same = Path(f"/proc/self/fd/{fd}")
        os.chown(same, pwd.getpwnam(place.owner).pw_uid, grp.getgrnam(place.group).gr_gid)
        same.chmod(place.mode)
    finally:
        os.close(fd)


def _ensure_group(name: str) -> None:
    try:
        grp.getgrnam(name)
    except KeyError:
        _run("groupadd", "--system", name)


def _ensure_user(name: str, groups: tuple[str, ...]) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        options = ("--home-dir", "/nonexistent", "--no-create-home", "--shell", "/usr/sbin/nologin")
        _run("useradd", "--system", "--gid", name, *options, name)
    missing = [group for group in groups if name not in grp.getgrnam(group).gr_mem]
    if missing:
        _run("usermod", "--append", "--groups", ",".join(missing), name)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise HostError(f"{argv[0]} failed: {done.stderr.strip()}", f"try: {' '.join(argv)}")
