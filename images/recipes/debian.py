"""Debian trixie for the servers that are handed out: whole disk, BIOS and UEFI, cloud-init."""

from pathlib import Path

from images.wholedisk import WholeDisk

PLUGIN = WholeDisk(file=Path(__file__), name="debian")
