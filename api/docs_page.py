"""/docs: the OpenAPI document to be read and tried, from files on this machine.

For whoever may call the API at all. A browser asks for a user and a password: a token's name and
the token. Nothing on the page comes from elsewhere, and its Content-Security-Policy forbids it.
"""

from importlib.resources import files
from typing import Final

import fastapi_swagger
from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from api.auth import Anyone
from provisioning.errors import NotFound

router = APIRouter()

_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Seed API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "/v1/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  tagsSorter: "alpha",
  validatorUrl: null,
});
"""


@router.get("/docs", include_in_schema=False)
def docs(caller: Anyone) -> HTMLResponse:
    """The page itself."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/docs/{name}", include_in_schema=False)
def docs_asset(name: str, caller: Anyone) -> Response:
    """A script, a style sheet, an icon."""
    headers = _HEADERS | {"Cache-Control": "private, max-age=86400"}
    if name == "start.js":
        return Response(_START, headers=headers, media_type="text/javascript")
    if name not in _ASSETS:
        raise NotFound(f"there is no /docs/{name[:80]}", "Open /docs.")
    content = (files(fastapi_swagger) / "resources" / name).read_bytes()
    return Response(content, headers=headers, media_type=_ASSETS[name])
