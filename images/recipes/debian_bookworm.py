"""Debian bookworm, for software that is not ready for trixie yet."""

from pathlib import Path

from images.wholedisk import WholeDisk

PLUGIN = WholeDisk(
    file=Path(__file__),
    name="debian-bookworm",
    suite="bookworm",
    without=("firmware-intel-misc",),  # part of firmware-misc-nonfree there
)
