"""Ubuntu 24.04 from its own cloud image, by diskimage-builder."""

from pathlib import Path

from images.dib import NEEDS, Dib

PLUGIN = Dib(
    file=Path(__file__),
    name="ubuntu",
    element="ubuntu",
    suite="noble",
    mirror="DIB_CLOUD_IMAGES",
    ssh_user="ubuntu",
    needs={**NEEDS, "unsquashfs": "squashfs-tools"},
    packages=("linux-image-generic", "mdadm"),
)
