"""Debian bookworm, for software that is not ready for trixie yet."""

from pathlib import Path

from images.wholedisk import WholeDisk

PLUGIN = WholeDisk(
    file=Path(__file__),
    name="debian-bookworm",
    suite="bookworm",
    # parts of firmware-misc-nonfree and of systemd there
    without=("firmware-intel-misc", "systemd-repart"),
)
