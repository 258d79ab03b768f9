"""Ubuntu 24.04 from its own cloud image, by diskimage-builder."""

from pathlib import Path

from images.dib import Dib

PLUGIN = Dib(
    file=Path(__file__),
    name="ubuntu",
    element="ubuntu",
    suite="noble",
    mirror="DIB_CLOUD_IMAGES",
    ssh_user="ubuntu",
    packages=("linux-image-generic", "mdadm"),
)
