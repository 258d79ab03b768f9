"""nginx.conf: boot files, the node gateway, and TLS in front of the API."""

from seed.host.paths import Paths
from seed.host.templating import templates
from seed.settings import Settings

# The ramdisk's routes (Ironic 39 without a login) and ours: methods, nginx location.
GATEWAY_ROUTES = (
    ("GET", "= /"),
    ("GET", "= /v1"),
    ("GET", "= /v1/lookup"),
    ("POST", '~ "^/v1/heartbeat/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"'),
    ("POST", "= /v1/continue_inspection"),
    ("POST", "= /v1/phone-home"),
    ("GET", '~ "^/v1/parts/[A-Za-z0-9_-]{43}$"'),
    ("POST", "= /v1/members"),
    ("GET", "= /v1/members/orders"),
    ("GET|PUT", '~ "^/v1/members/values/[a-z0-9.-]{1,63}$"'),
)


def render(settings: Settings) -> str:
    """nginx.conf. Everything that no location names answers 404."""
    return templates.get_template("nginx.conf").render(
        settings=settings, paths=Paths(settings), routes=GATEWAY_ROUTES
    )
