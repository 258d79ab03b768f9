"""Turn a BootSpec into an iPXE script, and keep one such file per MAC for nginx to serve."""

import os
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ipxe.bootspec import BootSpec, Chain, LocalDisk, Nothing, Ramdisk, checked_url, hyphened

DEFAULT = "default"
"""File under boot/ for every MAC that has none of its own."""

_templates = Environment(
    loader=PackageLoader("ipxe"),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701  scripts, not pages; bootspec.py lets no special character in
)
_names: dict[type[BootSpec], str] = {
    Nothing: "nothing.ipxe",
    LocalDisk: "disk.ipxe",
    Chain: "chain.ipxe",
    Ramdisk: "ramdisk.ipxe",
}


def render(spec: BootSpec) -> str:
    """The iPXE script for `spec`."""
    return _templates.get_template(_names[type(spec)]).render(spec=spec)


def render_first(boot_url: str) -> str:
    """The script that every machine starts with: it asks for /boot/<mac>, again and again.

    boot_url: plain HTTP address of this appliance on the provisioning wire.
    """
    return _templates.get_template("boot.ipxe").render(url=checked_url(boot_url))


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` in one step: a reader sees the old text or the new one, never a part.

    The temporary name starts with a dot: dnsmasq and nginx ignore such files.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    # O_EXCL follows no symlink: root writes into folders of less trusted users, too.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(fd, mode)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def boot_file(http_dir: Path, mac: str) -> Path:
    """Where the script for `mac` lies. Raises Invalid for anything but a MAC."""
    return http_dir / "boot" / hyphened(mac)


def write_boot_file(http_dir: Path, mac: str, spec: BootSpec) -> None:
    """From now on the machine with `mac` boots `spec`. Writes only if something changed."""
    path, text = boot_file(http_dir, mac), render(spec)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def remove_boot_file(http_dir: Path, mac: str) -> None:
    """From now on the machine with `mac` is treated as unknown. Safe to repeat."""
    boot_file(http_dir, mac).unlink(missing_ok=True)


def write_default(http_dir: Path, spec: BootSpec) -> None:
    """From now on every machine without a file of its own boots `spec`."""
    write_atomic(http_dir / "boot" / DEFAULT, render(spec))
