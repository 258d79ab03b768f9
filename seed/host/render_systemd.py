"""systemd units from the table of services: one per service, and seed.target above them."""

from collections.abc import Sequence

from seed.host.services import Service
from seed.host.templating import templates
from seed.settings import Settings

TARGET = "seed.target"


def unit_name(service: Service) -> str:
    """seed-api.service; the others get our prefix, to leave the distribution's units alone."""
    name = service.name if service.name.startswith("seed-") else f"seed-{service.name}"
    return f"{name}.service"


def _word(value: str) -> str:
    """One argument of ExecStart or Environment: quoted where needed, `%` and `$` literal."""
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{value}"' if any(c in value for c in " \t'\"") else value


def render(services: Sequence[Service], settings: Settings) -> dict[str, str]:
    """Unit file name to its text, seed.target and the tmpfiles.d snippet included."""
    template = templates.get_template("service.unit")
    by_name = {service.name: service for service in services}
    units = {
        unit_name(service): template.render(
            service=service,
            settings=settings,
            capabilities=[f"CAP_{name}" for name in service.capabilities],
            command=" ".join(map(_word, service.argv)),
            environment=[_word(f"{k}={v}") for k, v in service.env.items()],
            after=[unit_name(by_name[name]) for name in service.needs if name in by_name],
        )
        for service in services
    }
    wants = " ".join(units)
    units[TARGET] = templates.get_template("target.unit").render(wants=wants)
    units["seed.tmpfiles.conf"] = f"d {settings.run_dir} 1775 root seed-api -\n"
    return units
