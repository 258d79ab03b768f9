"""supervisord.conf from the table of services, for a machine without systemd.

supervisord itself runs as root, in the appliance's network namespace; each service is started
through setpriv: own user, no way to more rights, and exactly the capabilities that it needs.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from seed.host.paths import Paths
from seed.host.services import Service
from seed.host.templating import templates
from seed.settings import Settings

REAPER = Path(__file__).with_name("reaper.py")


def command(service: Service) -> list[str]:
    """argv that starts `service` as its own user, from a root process."""
    kept = ",".join(["-all", *(f"+{name.lower()}" for name in service.capabilities)])
    return [
        "/usr/bin/setpriv",
        f"--reuid={service.user}",
        f"--regid={service.user}",
        "--init-groups",
        "--no-new-privs",
        "--pdeathsig=TERM",  # of supervisord: nothing of ours outlives it
        f"--inh-caps={kept}",
        f"--ambient-caps={kept}",
        f"--bounding-set={kept}",
        "--",
        *service.argv,
    ]


def _quoted(value: str) -> str:
    """`value` for supervisor's environment list: quoted, and % is its own escape."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def render(services: Sequence[Service], settings: Settings) -> str:
    """supervisord.conf for `services`."""
    programs = [
        {
            "service": service,
            "command": shlex.join(command(service)).replace("%", "%%"),
            "environment": ",".join(f"{k}={_quoted(v)}" for k, v in service.env.items()),
        }
        for service in services
    ]
    template = templates.get_template("supervisord.conf")
    return template.render(
        programs=programs, settings=settings, paths=Paths(settings), reaper=REAPER
    )
