"""Rocky Linux 10 from its container image, by diskimage-builder; needs podman here."""

from pathlib import Path

from images.dib import NEEDS, Dib

PLUGIN = Dib(
    file=Path(__file__),
    name="rocky",
    element="rocky-container",
    suite="10",
    mirror="DIB_DISTRIBUTION_MIRROR",
    ssh_user="rocky",
    needs={**NEEDS, "podman": "podman"},
    packages=("mdadm",),
    settings={"DIB_CONTAINERFILE_RUNTIME": "podman"},
)
