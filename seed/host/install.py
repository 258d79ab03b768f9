"""What `make install` and `make uninstall` do beside environments: accounts, units, `seed` on PATH.

Run by the installed interpreter as root: python -I -m seed.host.install put|rest|remove [--purge].
Every step is safe to repeat. `seed up` writes the units anew from seed.toml and starts them; here
they are put in place so that systemd knows them, and nothing is enabled or started.
"""

import argparse
import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ipxe.render import write_atomic
from provisioning.errors import Conflict, HostError, Invalid, SeedError
from seed import config
from seed.host import render_systemd, supervision, systemd, users
from seed.host.services import table
from seed.host.systemd import HOST_CONFIG, INSTALLED, UNITS
from seed.settings import Settings

COMMAND = Path("/usr/local/bin/seed")
NGINX = "nginx.service"
NGINX_DROPIN = UNITS / f"{NGINX}.d" / "seed.conf"
ACCOUNTS = "accounts.json"
"""Which numbers owned the files that an uninstallation left in state_dir."""

# Units see these empty or read them as somebody else: ProtectHome, PrivateTmp.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108


def root_folder() -> Path:
    """What holds the environments that this program runs in: /opt/seed."""
    return Path(sys.prefix).parents[1]


def settings_or_defaults() -> Settings:
    """seed.toml's settings; before `seed init` those that the units and accounts need.

    Raises HostError if seed.toml is there but wrong.
    """
    if HOST_CONFIG.exists():
        return config.settings()
    return Settings.model_construct(env_dir=root_folder() / "envs")


# --- install --------------------------------------------------------------------------------------


def put(settings: Settings, root: Path) -> None:
    """Accounts, units, command. Raises HostError or Conflict; what was done so far may stay."""
    if any(root.is_relative_to(folder) for folder in _HIDDEN):
        raise Invalid(f"services cannot run from {root}", "make install ROOT=/opt/seed")
    rest(settings)
    _link(root / "envs" / "seed" / "bin" / "seed")
    users.ensure_accounts()
    adopt(settings)
    systemd.write_units(settings, table(settings))
    keep_nginx_off(root)
    _reload()
    write_atomic(root / INSTALLED, f"{COMMAND}\n")
    print(f"installed in {root}; next: seed init, seed up")


def rest(settings: Settings) -> None:
    """Raise HostError if a service of ours runs: its program or account is about to change."""
    if supervision.of(settings).running(settings):
        raise HostError("the appliance is running", "seed down")
    for pid, user in _processes():
        raise HostError(f"process {pid} runs as {user}", "seed down, or seed lab down")


def _processes() -> Iterator[tuple[int, str]]:
    """(pid, user) of every process of a service account, whoever started it."""
    numbers = {_uid(user): user for user in users.USERS}
    for entry in Path("/proc").iterdir():
        try:
            owner = entry.stat().st_uid if entry.name.isdigit() else 0
        except FileNotFoundError:
            continue
        if owner and owner in numbers:
            yield int(entry.name), numbers[owner]


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _link(program: Path) -> None:
    """`seed` on PATH. Raises Conflict if that name is somebody else's."""
    if COMMAND.exists() and not COMMAND.is_symlink():
        raise Conflict(f"{COMMAND} is another program", f"mv {COMMAND} {COMMAND}.other")
    COMMAND.unlink(missing_ok=True)
    COMMAND.parent.mkdir(parents=True, exist_ok=True)
    COMMAND.symlink_to(program)


def keep_nginx_off(root: Path) -> None:
    """Debian starts nginx-light's own server on port 80 at each boot: not while Seed is here.

    One that runs now is somebody's; it is left alone, and `seed up` says if a port is taken.
    """
    if systemd.present() and systemd.active(NGINX):
        print(f"{NGINX} runs and stays as it is; seed up needs port 80 on the provisioning wire")
        return
    NGINX_DROPIN.parent.mkdir(parents=True, exist_ok=True)
    text = f"# Written by seed.\n[Unit]\nConditionPathExists=!{root / INSTALLED}\n"
    write_atomic(NGINX_DROPIN, text)


def adopt(settings: Settings) -> None:
    """Files that an earlier installation left belong to the accounts of this one."""
    path = settings.state_dir / ACCOUNTS
    if not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    uids = {old: _uid(name) for name, old in before["users"].items()}
    gids = {old: _gid(name) for name, old in before["groups"].items()}
    for folder in (settings.state_dir, settings.log_dir):
        _hand_over(folder, uids, gids)
    path.unlink()


def _hand_over(folder: Path, uids: dict[int, int | None], gids: dict[int, int | None]) -> None:
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            status = (child := Path(parent, name)).lstat()
            uid, gid = uids.get(status.st_uid), gids.get(status.st_gid)
            if (uid or status.st_uid, gid or status.st_gid) != (status.st_uid, status.st_gid):
                mode = status.st_mode & 0o7777
                os.chown(child, uid or -1, gid or -1, follow_symlinks=False)
                if not child.is_symlink():
                    child.chmod(mode)  # chown takes setgid away


# --- uninstall ------------------------------------------------------------------------------------


def remove(settings: Settings, root: Path, purge: bool) -> None:
    """Everything that `put` and `seed up` made outside of `root`, which the caller removes.

    Raises HostError while a service runs.
    """
    rest(settings)
    if COMMAND.is_symlink() and COMMAND.readlink().is_relative_to(root):
        COMMAND.unlink()
    _remove_units(settings)
    shutil.rmtree(settings.run_dir, ignore_errors=True)
    if purge:
        _purge(settings)
    else:
        _close(settings)
    _remove_accounts()


def _remove_units(settings: Settings) -> None:
    if systemd.present() and systemd.place(render_systemd.TARGET).exists():
        systemd.control("disable", render_systemd.TARGET)
    names = render_systemd.render(table(settings), settings)
    for path in [*map(systemd.place, names), NGINX_DROPIN]:
        systemd.remove(path)
    if NGINX_DROPIN.parent.exists() and not any(NGINX_DROPIN.parent.iterdir()):
        NGINX_DROPIN.parent.rmdir()
    _reload()


def _reload() -> None:
    if systemd.present():
        systemd.control("daemon-reload", timeout=60)


def _close(settings: Settings) -> None:
    """Leave the data, for root alone: the numbers of our accounts may become somebody else's."""
    kept = [folder for folder in (settings.state_dir, settings.log_dir) if folder.exists()]
    for folder in kept:
        folder.chmod(0o700)
    if settings.state_dir in kept and _uid("seed-api") is not None:
        accounts = {
            "users": {name: _uid(name) for name in users.USERS},
            "groups": {name: _gid(name) for name in (*users.GROUPS, *users.USERS)},
        }
        write_atomic(settings.state_dir / ACCOUNTS, json.dumps(accounts) + "\n", 0o600)
    kept += [HOST_CONFIG.parent] if HOST_CONFIG.parent.exists() else []
    if kept:
        names = " ".join(map(str, kept))
        print(f"kept, for the next installation; PURGE=1 would have removed it: {names}")


def _purge(settings: Settings) -> None:
    """Databases, keys, published images, logs, settings; nothing that is not known to be ours."""
    state, log = settings.state_dir, settings.log_dir
    tops = {place.path.relative_to(state).parts[:1] for place in _below(settings, state)}
    for (name,) in sorted(part for part in tops if part):
        shutil.rmtree(state / name, ignore_errors=True)
    (state / ACCOUNTS).unlink(missing_ok=True)
    for path in log.glob("*.log*"):
        path.unlink()
    for place in _below(settings, log):
        if place.path != log:
            shutil.rmtree(place.path, ignore_errors=True)
    HOST_CONFIG.unlink(missing_ok=True)
    for folder in (state, log, HOST_CONFIG.parent):
        _remove_empty(folder)


def _below(settings: Settings, folder: Path) -> list[users.Place]:
    return [place for place in users.folders(settings) if place.path.is_relative_to(folder)]


def _remove_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if left := sorted(path.name for path in folder.iterdir()):
        print(f"kept: {folder}, which holds {', '.join(left)}")
    else:
        folder.rmdir()


def _remove_accounts() -> None:
    for user in users.USERS:
        if _uid(user) is not None:
            _run("userdel", user)
    for group in (*users.USERS, *users.GROUPS):
        if _gid(group) is not None:
            _run("groupdel", group)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise HostError(f"{argv[0]} failed: {done.stderr.strip()}", f"try: {' '.join(argv)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("put", "rest", "remove"))
    parser.add_argument("--purge", action="store_true")
    chosen = parser.parse_args()
    try:
        settings = settings_or_defaults()
        match chosen.verb:
            case "put":
                put(settings, root_folder())
            case "rest":
                rest(settings)
            case _:
                remove(settings, root_folder(), chosen.purge)
    except SeedError as problem:
        sys.exit(f"error: {problem}\n  try: {problem.remedy}")


if __name__ == "__main__":
    main()
