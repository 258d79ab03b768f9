"""Disk images on their way in, as people see them: uploads in pieces, and how far they are."""

import time
from pathlib import Path
from typing import Any, Final

from seed import show
from seed.client import Seed, TooLong, Unavailable
from seed.commands.door import USAGE, err, fail

COLUMNS: Final = {
    "name": "IMAGE", "state": "STATE", "done": "RECEIVED", "version": "VERSION", "from": "FROM",
}  # fmt: skip
PIECE: Final = 32 << 20
PIECE_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 1.0
PATIENCE: Final = 300.0
"""Seconds that Seed may be gone while an image is on its way."""


def upload(api: Seed, name: str, file: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Send a file piece by piece; one that was cut off before is gone on with."""
    if not file.is_file():
        fail(f"there is no file {file}", f"ls -l {file.parent}", USAGE)
    intake = _begun(api, name, told) or api.create(f"/images/{name}/versions", told)
    total, gone = file.stat().st_size, 0.0
    with err.status("...") as progress, file.open("rb") as content:
        while intake["state"] == "uploading":
            progress.update(f"{show.cell(file.name)}: {_of(intake['bytes_done'], total)}")
            try:
                intake = _piece(api, intake, content, total)
                gone = 0.0
            except Unavailable:
                gone = gone or time.monotonic()
                if time.monotonic() > gone + PATIENCE:
                    raise
                time.sleep(LOOK_SECONDS)
    return intake


def _begun(api: Seed, name: str, told: dict[str, Any]) -> dict[str, Any] | None:
    """An upload of this very file that waits for the rest of it."""
    for intake in api.pages("/image-intakes"):
        same = intake["name"] == name and intake["sha256"] == told["sha256"].strip().lower()
        if same and intake["state"] == "uploading":
            return dict(intake)
    return None


def _piece(api: Seed, intake: dict[str, Any], content: Any, total: int) -> dict[str, Any]:  # noqa: ANN401
    path = f"/image-intakes/{intake['id']}"
    first = int(api.get(path)["bytes_done"])
    content.seek(first)
    piece = content.read(PIECE)
    if not piece:
        fail("the file is empty, or shorter than what came of it before", "ls -l FILE", USAGE)
    told = {"Content-Range": f"bytes {first}-{first + len(piece) - 1}/{total}"}
    told["Content-Type"] = "application/octet-stream"
    answer = api.call("PUT", f"{path}/content", content=piece, headers=told, timeout=PIECE_SECONDS)
    return dict(answer.json())


def follow(api: Seed, identity: str, seconds: float) -> dict[str, Any]:
    """Until it is in, or refused. Raises TooLong; Seed may be restarted meanwhile."""
    deadline = time.monotonic() + seconds
    seen = time.monotonic()
    with err.status("...") as progress:
        while True:
            try:
                intake = dict(api.get(f"/image-intakes/{identity}"))
                seen = time.monotonic()
            except Unavailable:
                if time.monotonic() > seen + PATIENCE:
                    raise
                intake = {}
            if intake.get("ended_at"):
                return intake
            if time.monotonic() > deadline:
                raise TooLong(f"the image is not in after {seconds:.0f} s", "`seed image intakes`")
            if intake:
                done = _of(intake["bytes_done"], intake["bytes_total"])
                progress.update(
                    f"{show.cell(intake['name'])} {intake['state']}: {done}{_why(intake)}"
                )
            time.sleep(LOOK_SECONDS)


def _why(intake: dict[str, Any]) -> str:
    """Why it does not get on, if it does not."""
    return f"; {show.cell(intake['problem'])}" if intake["problem"] else ""


def flat(intake: dict[str, Any]) -> dict[str, Any]:
    done = _of(intake["bytes_done"], intake["bytes_total"])
    return intake | {"done": done, "from": intake["source"] or intake["asked_by"]}


def _of(done: int, total: int) -> str:
    """Received, of how much."""
    part = f" of {total / 10**6:.0f}" if total else ""
    share = f" ({100 * done // total} %)" if total else ""
    return f"{done / 10**6:.0f}{part} MB{share}"
