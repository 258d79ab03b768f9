"""Published images. Building them is the CLI's work on the host."""

from fastapi import APIRouter

from api.auth import Anyone
from api.parts import Here
from provisioning.image import Image, find, published

router = APIRouter(prefix="/v1/images", tags=["images"])


@router.get("")
def list_images(caller: Anyone, parts: Here) -> list[Image]:
    """The current version of every image."""
    return published(parts.image_dir)


@router.get("/{name}")
def show_image(name: str, caller: Anyone, parts: Here) -> Image:
    """The current version of one image."""
    return find(parts.image_dir, name)
