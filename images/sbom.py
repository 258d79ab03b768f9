"""A bill of materials in SPDX 2.3 JSON: what Debian packages an image has, and from which source.

Format: spdx.github.io/spdx-spec/v2.3; package URLs: the "deb" type of package-url/purl-spec.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from images.tools import EPOCH

KIND = "https://spdx.org/spdxdocs"
NONE = "NOASSERTION"


@dataclass(frozen=True, slots=True)
class Part:
    """One Debian package as dpkg knows it."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    maintainer: str


def document(image: str, suite: str, digest: str, parts: Iterable[Part]) -> dict[str, Any]:
    """The bill of one build; the same build has the same bill, so its time is the build's EPOCH."""
    packages = [_package(part, suite) for part in sorted(parts, key=lambda part: part.name)]
    top = {
        "SPDXID": "SPDXRef-image",
        "name": image,
        "versionInfo": digest,
        "downloadLocation": NONE,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image}-{digest}",
        "documentNamespace": f"{KIND}/{image}-{digest}",
        "creationInfo": {
            "created": f"{datetime.fromtimestamp(EPOCH, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "creators": ["Tool: seed"],
        },
        "documentDescribes": ["SPDXRef-image"],
        "packages": [top, *packages],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-image",
            },
            *(
                {
                    "spdxElementId": "SPDXRef-image",
                    "relationshipType": "CONTAINS",
                    "relatedSpdxElement": package["SPDXID"],
                }
                for package in packages
            ),
        ],
    }


def _package(part: Part, suite: str) -> dict[str, Any]:
    """Licences stand in the image's own /usr/share/doc/<package>/copyright, not here."""
    purl = f"pkg:deb/debian/{quote(part.name, safe='')}@{quote(part.version, safe='')}"
    return {
        "SPDXID": "SPDXRef-deb-"
        + re.sub(r"[^A-Za-z0-9.-]", "-", f"{part.name}-{part.architecture}"),
        "name": part.name,
        "versionInfo": part.version,
        "supplier": f"Organization: {part.maintainer}",
        "sourceInfo": f"built from {part.source} {part.source_version}",
        "downloadLocation": NONE,
        "filesAnalyzed": False,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": f"{purl}?arch={part.architecture}&distro={suite}",
            }
        ],
    }
