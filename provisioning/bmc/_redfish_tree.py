"""A BMC's resources as plain JSON, read leniently: what is missing or of the wrong type is empty.

sushy's own resource classes refuse a whole resource for one malformed property.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from provisioning.lenient import Doc, at, doc, listing

MOST_PAGES = 16


class Untold(Exception):
    """The BMC did not give this resource. `silent`: it plainly has none."""

    def __init__(self, why: str, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


@dataclass(frozen=True)
class Answer:
    """body: whatever JSON it was. allow: the methods that the resource allows."""

    body: Any
    allow: str = ""


def path_of(value: object) -> str:
    """The path that a link names on this BMC. Empty for what leads elsewhere or is no link."""
    link = at(value, "@odata.id")
    if not isinstance(link, str):
        return ""
    try:
        parts = urlsplit(link)
    except ValueError:
        return ""
    here = not parts.scheme and not parts.netloc and parts.path.startswith("/redfish/")
    if not here or not link.isprintable():
        return ""
    return parts.path.rstrip("/") + (f"?{parts.query}" if parts.query else "")


@dataclass
class Tree:
    """Each resource is asked for once, so that links in a circle end.

    ask:    GET of a path. Raises Untold.
    expand: "$expand=..." where the BMC says it knows it.
    untold: the paths that it failed to answer, and how.
    """

    ask: Callable[[str], Answer]
    expand: str = ""
    known: dict[str, Doc] = field(default_factory=dict)
    allow: dict[str, str] = field(default_factory=dict)
    untold: list[str] = field(default_factory=list)

    def read(self, link: object) -> Doc:
        """The resource behind a link; empty where it is not told."""
        path = path_of(link)
        return self._get(path, path) if path else {}

    def members(self, link: object) -> list[Doc]:
        """The members of the collection behind a link, each one read."""
        return [member for member in self.each(link) if member]

    def each(self, link: object) -> Iterator[Doc]:
        """As members(), read one by one as they are wanted."""
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            path = path_of(link)
            if not path or path in seen:
                return
            page = self._collection(path)
            for entry in listing(page.get("Members")):
                member = path_of(entry)
                if member not in seen:
                    seen.add(member)
                    yield self._member(entry, member)
            seen.add(path)
            link = {"@odata.id": page.get("Members@odata.nextLink")}

    def _member(self, entry: object, path: str) -> Doc:
        if len(doc(entry)) > 1:  # it came expanded
            return self.known.setdefault(path, doc(entry))
        return self.read(entry)

    def _collection(self, path: str) -> Doc:
        if path in self.known or not self.expand or "?" in path:
            return self._get(path, path)
        page = self._get(path, f"{path}?{self.expand}", silent=True)
        if page:
            return page
        self.expand = ""  # it does not know it after all
        self.known.pop(path, None)
        return self._get(path, path)

    def _get(self, path: str, url: str, silent: bool = False) -> Doc:
        if path not in self.known:
            self.known[path] = {}
            try:
                answer = self.ask(url)
            except Untold as err:
                if not (silent or err.silent):
                    self.untold.append(f"{path}: {err}")
            else:
                self.known[path] = doc(answer.body)
                self.allow[path] = answer.allow
        return self.known[path]
