"""The rack plan: what is planned, what is found there, and what technicians have to do."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query

from api.auth import Insider, Operator
from api.parts import Here, Raw
from api.rack_shapes import LineOut, RackFull, RackOut, ReportOut, ScanOut, Shapes
from provisioning import rack_file, racks, scan
from provisioning.errors import Conflict, NotFound
from provisioning.racks import Change
from provisioning.scan import Meant

router = APIRouter(tags=["racks"])
FILES: Final = {"/v1/racks:import": rack_file.MAX_BYTES}
"""Routes whose body is a file, and how large it may be."""
_BODY: Final = {
    "requestBody": {
        "content": {"application/octet-stream": {}, "text/csv": {}, "application/yaml": {}},
        "required": True,
    },
}
RackName = Annotated[str | None, Query(description='"r3"; "row/r3" where there are two.')]


@router.post("/v1/racks:import", openapi_extra=_BODY)
def import_plan(
    caller: Operator,
    parts: Here,
    body: Raw,
    format: Literal["table", "yaml"] = "table",
    replace: bool = False,
    removes: Annotated[int | None, Query(ge=0)] = None,
    dry_run: bool = False,
) -> Change:
    """Plan the racks that the file (CSV, XLSX or YAML) names anew. All or nothing.

    replace: drop the plan of all other racks, too; removes: how many slots go, as dry_run told.
    """
    planned = rack_file.read(body, format)
    if dry_run:
        with parts.store.read() as session:
            return racks.propose(session, planned, replace)[0]
    with parts.store.write() as session:
        return racks.put(session, planned, replace, removes, caller.name)


@router.get("/v1/racks")
def list_racks(caller: Insider, parts: Here) -> list[RackOut]:
    """Every planned rack: planned, found, right, wrong."""
    return _shapes(parts).racks()


@router.get("/v1/racks:work")
def work(
    caller: Insider, parts: Here, technician: str | None = None, rack: RackName = None
) -> list[LineOut]:
    """What is to be done, rack by rack from the bottom up."""
    shapes = _shapes(parts)
    wanted = _label(shapes, rack) if rack else None
    return [
        shapes.line(line)
        for line in shapes.room.lines
        if technician in (None, *line.technicians) and wanted in (None, line.rack)
    ]


@router.get("/v1/racks:scan")
def read_label(
    text: Annotated[str, Query(min_length=1, max_length=scan.LONGEST)], caller: Insider, parts: Here
) -> ScanOut:
    """Which server a label's text names: a serial or MAC in it that the plan or a BMC knows."""
    with parts.store.read() as session:
        room, found = racks.room_and_servers(session)
    return Shapes(room).scanned(_the_one(text, scan.find(text, room, found)))


@router.get("/v1/racks:report")
def report(caller: Insider, parts: Here) -> ReportOut:
    """Every rack, slot by slot, with its work."""
    return _shapes(parts).report()


@router.get("/v1/racks/{rack}")
def show_rack(rack: str, caller: Insider, parts: Here, site: str = "", row: str = "") -> RackFull:
    """One rack, slot by slot, and the work in it. site, row: where two have this name."""
    shapes = _shapes(parts)
    return shapes.full(_label(shapes, "/".join(filter(None, (site, row, rack)))))


def _shapes(parts: Here) -> Shapes:
    with parts.store.read() as session:
        return Shapes(racks.room_and_servers(session)[0])


def _label(shapes: Shapes, name: str) -> str:
    """What a rack is called in lines. Raises NotFound, and Conflict for a name that two have."""
    meant = shapes.labels.racks(name)
    if not meant:
        raise NotFound(f"no rack {name!r} is planned", "See which are: `seed rack list`.")
    if len(meant) > 1:
        raise Conflict(
            f"{name!r} may be {' or '.join(map(str, meant))}",
            f"Say which one: `seed rack show {meant[0]}`.",
        )
    return shapes.labels.rack(meant[0])


def _the_one(text: str, meant: list[Meant]) -> Meant:
    if not meant:
        raise NotFound(
            f"nothing in {text[:80]!r} is a serial or MAC of the plan or of a BMC",
            "Type the serial by hand: `seed rack scan SERIAL`. New? `seed discover RANGE`.",
        )
    if len(meant) > 1:
        raise Conflict(
            f"{text[:80]!r} names {' and '.join(one.name for one in meant[:4])}",
            "Scan the label that has the serial number alone.",
        )
    return meant[0]
