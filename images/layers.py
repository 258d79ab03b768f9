"""Put a site's extras into a root file system, between its packages and its settings."""

import os
from pathlib import Path

from images.extras import Extras, File, User
from images.workbench import Argv, Workbench
from provisioning.errors import Invalid

ALL = frozenset({"ca", "proxy", "no_proxy", "packages", "users", "files"})
"""What a disk of ours takes; a recipe says if it takes less."""

AUTHORITIES = "usr/local/share/ca-certificates"
SHELL = "/bin/bash"

# apt of the image itself, so that its own rules hold. Mounts are of a namespace that ends with the
# command; policy-rc.d keeps what is installed from being started here.
INSTALL = """\
set -eu
root=$1; shift
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
printf '#!/bin/sh\\nexit 101\\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
[ ! -e "$root/etc/resolv.conf" ] && [ ! -L "$root/etc/resolv.conf" ] || \\
    mv "$root/etc/resolv.conf" "$root/etc/resolv.conf.kept"
cp /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" apt-get -qq -o Acquire::Languages=none update
chroot "$root" apt-get -qq -y --no-install-recommends -o DPkg::Options::=--force-unsafe-io \\
    -o DPkg::Options::=--force-confold install "$@"
chroot "$root" apt-get clean
rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/resolv.conf"
[ ! -e "$root/etc/resolv.conf.kept" ] && [ ! -L "$root/etc/resolv.conf.kept" ] || \\
    mv "$root/etc/resolv.conf.kept" "$root/etc/resolv.conf"
"""


def check(extras: Extras, taken: frozenset[str], recipe: str, sources: tuple[str, ...]) -> None:
    """Raises Invalid for extras that this recipe cannot have."""
    left = extras.asked() - taken
    if left:
        raise Invalid(
            f"image {recipe} takes no {', '.join(sorted(left))} from a site's extras, "
            f"only {', '.join(sorted(taken)) or 'none'}",
            f"seed image build {recipe}",
        )
    local = [line for line in sources if " file:" in line or " copy:" in line]
    if extras.packages and local:
        raise Invalid(
            "packages of extras come by http, and debian_mirror is a folder of this machine",
            'set debian_mirror = "http://<mirror>/debian" in seed.toml',
        )


def add(bench: Workbench) -> None:
    """Packages first, because they may bring the folders and groups the rest needs."""
    extras = bench.extras
    if not extras.asked():
        return
    bench.step("site extras")
    if extras.packages:
        install(bench, extras.packages)
    authorities = [
        File(path=f"/{AUTHORITIES}/site-{number}.crt", content=text)
        for number, text in enumerate(extras.ca, 1)
    ]
    for file in [*authorities, *_proxy(extras)]:
        put(bench.root, file)
    if authorities:
        bench.run(["chroot", bench.root, "update-ca-certificates"], 120)
    for user in extras.users:
        account(bench, user)
    for file in extras.files:
        put(bench.root, file)


def install(bench: Workbench, packages: tuple[str, ...]) -> None:
    """apt-get install in bench.root, from its own sources."""
    argv: Argv = ["unshare", "--mount", "sh", "-c", INSTALL, "install", bench.root]
    bench.run([*argv, *packages], 1200)


def put(root: Path, file: File) -> None:
    """Write one file below `root`, never through a link that leads out of it."""
    target = root / file.path.lstrip("/")
    existing = target.parent
    while not existing.exists():
        existing = existing.parent
    if not existing.resolve().is_relative_to(root.resolve()) or target.is_dir():
        raise Invalid(
            f"extras: {file.path} leads out of the image or is a folder there",
            "name the place it shall really be at",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_text(file.content)
    target.chmod(int(file.mode, 8))


def account(bench: Workbench, user: User) -> None:
    """An account with keys and a locked password."""
    argv: Argv = ["chroot", bench.root, "useradd", "--create-home", "--shell", SHELL, user.name]
    bench.run(argv, 60)
    (line,) = [
        line
        for line in (bench.root / "etc/passwd").read_text().splitlines()
        if line.startswith(f"{user.name}:")
    ]
    uid, gid, home = int(line.split(":")[2]), int(line.split(":")[3]), line.split(":")[5]
    folder = bench.root / home.lstrip("/") / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    keys = folder / "authorized_keys"
    keys.write_text("".join(f"{key}\n" for key in user.ssh_keys))
    keys.chmod(0o600)
    for path in (folder, keys):
        os.chown(path, uid, gid)
    if user.sudo:
        text = f"{user.name} ALL=(ALL) NOPASSWD:ALL\n"
        put(bench.root, File(path=f"/etc/sudoers.d/50-{user.name}", content=text, mode="0440"))


def _proxy(extras: Extras) -> list[File]:
    if not extras.proxy:
        return []
    where, past = extras.proxy, ",".join(extras.no_proxy)
    apt = f'Acquire::http::Proxy "{where}";\nAcquire::https::Proxy "{where}";\n'
    apt += "".join(f'Acquire::http::Proxy::{host} "DIRECT";\n' for host in extras.no_proxy)
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    login = "".join(f"{name}={where}\n" for name in names)
    login += f"no_proxy={past}\nNO_PROXY={past}\n" if past else ""
    return [
        File(path="/etc/apt/apt.conf.d/90-site-proxy", content=apt),
        File(path="/etc/environment", content=login),
    ]
