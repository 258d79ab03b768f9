"""One table of services, two renderers."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioning.errors import Invalid
from seed.host import ironic_conf, nginx_conf, render_supervisor, render_systemd, tls, users
from seed.host.services import Service, table
from seed.settings import AutoscalerSettings, Settings
from tests.fakes.settings import some_settings

GOLDEN = Path(__file__).parents[1] / "golden" / "host"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SEED_CONFIG", "/etc/seed/seed.toml")
    return some_settings(Path("/srv/seed"))


def everything() -> Settings:
    """With the services that run only where somebody wants them."""
    return some_settings(Path("/srv/seed"), autoscaler=AutoscalerSettings(wire="provisioning"))


def golden(name: str, text: str) -> None:
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_supervisord_conf_is_the_golden_one(settings: Settings) -> None:
    text = render_supervisor.render(table(settings), settings)
    golden("supervisord.conf", text.replace(str(render_supervisor.REAPER), "/srv/seed/reaper.py"))


def test_units_are_the_golden_ones(settings: Settings) -> None:
    units = render_systemd.render(table(settings), settings)
    assert sorted(units) == sorted(path.name for path in (GOLDEN / "systemd").iterdir())
    for name, text in units.items():
        golden(f"systemd/{name}", text)


def test_nginx_conf_is_the_golden_one(settings: Settings) -> None:
    golden("nginx.conf", nginx_conf.render(settings))


def test_ironic_conf_is_the_golden_one(settings: Settings) -> None:
    golden("ironic.conf", ironic_conf.render(settings))


def test_fake_hardware_only_when_asked(settings: Settings) -> None:
    assert "fake" not in ironic_conf.render(settings)
    text = ironic_conf.render(settings, ["fake-hardware"])
    assert "enabled_hardware_types = redfish,ipmi,fake-hardware\n" in text
    assert "enabled_power_interfaces = redfish,ipmitool,fake\n" in text


def test_supervisor_starts_what_systemd_starts(settings: Settings) -> None:
    """Users, arguments and environment agree; supervisor's own parser reads the file."""
    parser = configparser.RawConfigParser()
    parser.read_string(render_supervisor.render(table(settings), settings))
    units = render_systemd.render(table(settings), settings)
    for service in table(settings):
        command = parser[f"program:{service.name}"]["command"]
        unit = units[render_systemd.unit_name(service)]
        assert f"--reuid={service.user}" in command
        assert f"User={service.user}" in unit
        assert command.endswith(" ".join(service.argv))
        assert f"ExecStart={' '.join(service.argv)}" in unit


def test_every_service_has_its_own_user() -> None:
    services = table(everything())
    assert len({service.user for service in services}) == len(services)
    assert {service.user: service.groups for service in services} == users.USERS


def test_only_the_network_services_keep_capabilities() -> None:
    assert {s.name for s in table(everything()) if s.capabilities} == {"dnsmasq", "nginx"}


def test_autoscalers_are_answered_only_where_somebody_says_so(settings: Settings) -> None:
    more = {s.name for s in table(everything())} - {s.name for s in table(settings)}
    assert more == {"seed-autoscaler"}
    assert everything().autoscaler_address == "172.22.0.1:8444"
    assert sorted(tls.servers(everything())) == ["autoscaler", "gateway", "management"]
    assert sorted(tls.servers(settings)) == ["gateway", "management"]
    units = render_systemd.render(table(everything()), everything())
    assert "ReadWritePaths=/srv/seed/state/db\n" in units["seed-autoscaler.service"]
    for port in (443, 8443):
        with pytest.raises(ValueError, match=r"autoscaler.port: \d+ is another service's"):
            some_settings(Path("/srv/seed"), autoscaler={"wire": "management", "port": port})


def test_services_come_after_what_they_need(settings: Settings) -> None:
    names = [service.name for service in table(settings)]
    for service in table(settings):
        assert all(names.index(name) < names.index(service.name) for name in service.needs)


def test_a_service_that_does_not_exist_is_refused(settings: Settings) -> None:
    with pytest.raises(Invalid, match="no service 'apache'"):
        table(settings, ["apache"])


def test_odd_characters_survive_both_renderers(settings: Settings) -> None:
    odd = Service(
        name="odd",
        argv=("/bin/echo", "a b", "100%", "$HOME", 'say "x"'),
        user="nobody",
        ready=lambda: True,
        env={"A": 'x "y" 5%'},
    )
    supervisor = render_supervisor.render([odd], settings)
    assert "'a b' 100%% '$HOME' 'say \"x\"'" in supervisor
    assert 'environment = A="x \\"y\\" 5%%"' in supervisor
    unit = render_systemd.render([odd], settings)["seed-odd.service"]
    assert 'ExecStart=/bin/echo "a b" 100%% $$HOME "say \\"x\\""' in unit
    assert 'Environment="A=x \\"y\\" 5%%"' in unit


def test_systemd_takes_the_units(settings: Settings, tmp_path: Path) -> None:
    """systemd-analyze verify finds nothing wrong. Programs are replaced by one that exists."""
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: apt-get install systemd"
    for name, text in render_systemd.render(table(settings), settings).items():
        if name.endswith((".service", ".target")):
            lines = [
                "ExecStart=/bin/true" if line.startswith("ExecStart=") else line
                for line in text.splitlines()
            ]
            (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "seed" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr
