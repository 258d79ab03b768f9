"""The ramdisk that inspects, cleans and writes servers."""

from pathlib import Path

from images.inmemory import Ramdisk

PLUGIN = Ramdisk(file=Path(__file__), name="ramdisk")
