"""Names as people may write them. Apart from the stored nouns: the command line wants these alone,
and a database's library doubles what it loads: 1.3 s of CPU, not 0.65, on a slow machine."""

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

# RFC 1123 label: it becomes the host name; "-499" may follow within 63 characters.
HOST_LABEL = r"^[a-z0-9]([a-z0-9-]{0,57}[a-z0-9])?$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
IMAGE = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?(:[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)?$"
IN_WORDS = {  # what a person is told who did not meet them
    HOST_LABEL: "only a-z, 0-9 and '-', at most 59, a letter or digit first and last",
    IMAGE: "an image's name, or NAME:VERSION, of a-z, 0-9, '.' and '-'",
    NAME: "only letters, digits, '.', '_' and '-', at most 80, a letter or digit first",
}
HostLabel = Annotated[str, StringConstraints(pattern=HOST_LABEL)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
ImageRef = Annotated[str, StringConstraints(pattern=IMAGE)]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TAKEN = frozenset({"all", "ungrouped", "none", "null", "localhost", "detail"})


def _free(name: str) -> str:
    """A name is looked for beside UUIDs, and becomes a host's and an inventory group's."""
    if _UUID.fullmatch(name):
        raise ValueError("a name that looks like a UUID would be taken for one")
    if name.lower() in _TAKEN:
        raise ValueError(f"{name} means something else already")
    return name


NewHostLabel = Annotated[HostLabel, AfterValidator(_free)]
NewName = Annotated[Name, AfterValidator(_free)]
