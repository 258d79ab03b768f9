"""ironic.conf, its accounts and its database."""

import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

import bcrypt

from ipxe.bootspec import COLLECTORS, console_arguments
from ipxe.render import write_atomic
from provisioning.errors import HostError
from seed.host.paths import Paths
from seed.host.render_supervisor import command
from seed.host.services import Service
from seed.host.templating import templates
from seed.settings import Settings

ACCOUNTS = ("seed-api", "seed-reconciler")
_QUIET = "nofb vga=normal {console} quiet systemd.show_status=false"


def render(settings: Settings, extra_hardware: Sequence[str] = (), ipmi_interval: int = 1) -> str:
    """ironic.conf.

    extra_hardware: more hardware types, for tests: ["fake-hardware"].
    ipmi_interval:  seconds between two IPMI commands to one BMC.
    """
    return templates.get_template("ironic.conf").render(
        settings=settings,
        paths=Paths(settings),
        extra=list(extra_hardware),
        fake=",fake" if "fake-hardware" in extra_hardware else "",
        ipmi_interval=ipmi_interval,
        kernel_args=_QUIET.format(console=" ".join(console_arguments(settings.console_args))),
        collectors=COLLECTORS,
    )


def ensure_accounts(settings: Settings) -> None:
    """One random password per account of ours, and the htpasswd file that Ironic checks.

    Kept over restarts. Owners and modes are set by users.fix_files.
    """
    paths = Paths(settings)
    lines = []
    for account in ACCOUNTS:
        path = paths.ironic_password(account)
        if not path.exists():
            write_atomic(path, secrets.token_urlsafe(32) + "\n", 0o600)
        lines.append(f"{account}:{_hashed(path.read_text(encoding='utf-8').strip())}")
    if not _same(paths.htpasswd, paths):
        write_atomic(paths.htpasswd, "\n".join(lines) + "\n", 0o600)


def _hashed(password: str) -> str:
    """bcrypt at a low cost: it is checked on every request, and the password has 256 random bits.

    oslo.middleware wants the prefix $2y$; the algorithm is that of $2b$.
    """
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=5)).decode()
    return digest.replace("$2b$", "$2y$", 1)


def _same(htpasswd: Path, paths: Paths) -> bool:
    """Whether `htpasswd` already holds exactly our accounts with their present passwords."""
    if not htpasswd.exists():
        return False
    pairs = [line.split(":", 1) for line in htpasswd.read_text(encoding="utf-8").splitlines()]
    if tuple(name for name, _ in pairs) != ACCOUNTS:
        return False
    return all(
        bcrypt.checkpw(
            paths.ironic_password(name).read_text(encoding="utf-8").strip().encode(),
            hashed.encode(),
        )
        for name, hashed in pairs
    )


def version(settings: Settings) -> str:
    """Version of the installed Ironic, read from its environment.

    Raises HostError if that environment is not there.
    """
    found = sorted((settings.env_dir / "ironic" / "lib").glob("python3*/site-packages/ironic-*"))
    if not found:
        raise HostError(f"Ironic is not installed in {settings.env_dir / 'ironic'}", "make setup")
    return found[0].name.removesuffix(".dist-info")


def ensure_database(settings: Settings, service: Service) -> None:
    """Make Ironic's database, or upgrade it if it was made by another version of Ironic.

    A new one is made under another name first: a crash leaves no half database behind.
    """
    paths, wanted = Paths(settings), version(settings)
    if paths.ironic_db.exists():
        stamp = paths.ironic_schema
        if stamp.exists() and stamp.read_text(encoding="utf-8").strip() == wanted:
            return
        _dbsync(settings, service, [], "upgrade")
    else:
        _create(settings, service)
    write_atomic(paths.ironic_schema, wanted + "\n")


def _create(settings: Settings, service: Service) -> None:
    paths = Paths(settings)
    fresh = paths.ironic / "new.db"
    fresh.unlink(missing_ok=True)
    override = paths.config / "ironic-new.conf"
    write_atomic(override, f"[database]\nconnection = sqlite:///{fresh}\n")
    _dbsync(settings, service, ["--config-file", str(override)], "create_schema")
    fresh.replace(paths.ironic_db)
    override.unlink()


def _dbsync(settings: Settings, service: Service, options: list[str], verb: str) -> None:
    paths = Paths(settings)
    program = settings.env_dir / "ironic" / "bin" / "ironic-dbsync"
    argv = [str(program), "--config-file", str(paths.ironic_conf), *options, verb]
    as_user = command(service)[: -len(service.argv)]  # setpriv and its options
    try:
        done = subprocess.run(
            [*as_user, *argv],
            env=dict(service.env),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"ironic-dbsync {verb} did not end within 120 s", "see whether the disk is slow or full"
        ) from error
    if done.returncode != 0:
        log = settings.log_dir / "ironic-dbsync.log"
        write_atomic(log, done.stdout + done.stderr, 0o640)
        raise HostError(f"ironic-dbsync {verb} failed with {done.returncode}", f"see {log}")
