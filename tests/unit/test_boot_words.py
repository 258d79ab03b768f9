"""No value, whatever somebody writes, becomes a second word or line of a script or configuration.

Each grammar is tried with any text there is, and with texts made of what has a meaning somewhere.
"""

import configparser
import re
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ipxe import bootspec, dnsmasq, render
from ipxe.bootspec import Chain, Ramdisk
from provisioning import disks, kernel_args
from provisioning.errors import Invalid
from provisioning.models import ClaimSpec
from seed.host import ironic_conf, nginx_conf
from tests.fakes.settings import some_settings
from tests.unit.test_ipxe import MAC, URL, a_dhcp

EVIL = ["\n", "\r", "\0", ";", "${", "$", "`", "'", '"', " ", "\t", "\\", "&&", "||", "#", "{", "}",
        "\u2028", "\u00a0", "\x85", "\uff41", "(", ")", "<", ">", "*", "?", "!", "|", "^", "\x7f",
        "\ud800"]  # fmt: skip
GOOD = ["a", "console=ttyS0,115200n8", "http://10.0.0.1/images/x", "quiet", "/var/lib", "=", "0",
        "52:54:00:22:00:01", "-", ".", "%", "hugepages=16"]  # fmt: skip
WORDS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.lists(st.sampled_from(EVIL + GOOD), max_size=6).map("".join),
)
PLAIN = re.compile(r"[0-9A-Za-z._~%+:@,/=-]*", re.ASCII)
"""What has no meaning to iPXE, dnsmasq, nginx, Ironic, a shell or a kernel's command line."""

CHECKS: dict[str, Callable[[str], object]] = {
    "argument": bootspec.checked_argument,
    "url": bootspec.checked_url,
    "mac": bootspec.checked_mac,
    "interface": bootspec.checked_interface,
    "path": lambda text: str(bootspec.checked_path(PurePosixPath(text))),
}


def passes(check: Callable[[str], object], text: str) -> str | None:
    try:
        return str(check(text))
    except Invalid:
        return None


@pytest.mark.parametrize("name", CHECKS)
@given(text=WORDS)
def test_what_passes_is_plain_and_passes_again_as_it_is(name: str, text: str) -> None:
    passed = passes(CHECKS[name], text)
    if passed is not None:
        assert PLAIN.fullmatch(passed), passed
        assert name == "path" or passed == text, "checked, never mended"
        assert passes(CHECKS[name], passed) == passed


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    ("name", "good"),
    [("argument", "console=ttyS0"), ("url", "http://10.0.0.1/images/kernel"), ("mac", MAC),
     ("interface", "prov0"), ("path", "/var/lib/seed")],
)  # fmt: skip
def test_one_sign_is_enough_to_be_refused(name: str, good: str, evil: str) -> None:
    assert passes(CHECKS[name], good) == good
    for text in (good + evil, evil + good, good[:4] + evil + good[4:]):
        assert passes(CHECKS[name], text) is None, text


@given(url=WORDS, argument=WORDS)
def test_a_script_has_the_lines_of_its_template_whatever_was_asked(url: str, argument: str) -> None:
    try:
        chain, ramdisk = Chain(url), Ramdisk(url, (url,), (argument,))
    except Invalid:
        return
    for spec, lines in ((chain, Chain(URL)), (ramdisk, Ramdisk(URL, (URL,), ("quiet",)))):
        assert render.render(spec).count("\n") == render.render(lines).count("\n")
        assert render.render(spec).count("${") == render.render(lines).count("${")


@given(WORDS)
def test_the_first_script_and_dnsmasq_say_what_they_say(url: str) -> None:
    try:
        told = render.render_first(url), dnsmasq.render(a_dhcp(boot_url=url))
    except Invalid:
        return
    wanted = render.render_first(URL), dnsmasq.render(a_dhcp())
    assert [t.count("\n") for t in told] == [w.count("\n") for w in wanted]


@given(name=WORDS)
def test_a_reservation_is_one_line_of_three_words(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("hosts")
    try:
        dnsmasq.write_host(folder, MAC, IPv4Address("172.22.0.9"), name)
    except Invalid:
        assert list(folder.iterdir()) == []
        return
    (text,) = [path.read_text() for path in folder.iterdir()]
    assert re.fullmatch(r"[0-9a-f:]{17},172\.22\.0\.9,[a-z0-9-]{1,63}\n", text)


# --- seed.toml ------------------------------------------------------------------------------------


@given(words=WORDS)
def test_console_arguments_are_one_line_of_ironic_conf_and_of_the_discovery_script(
    words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume("\ud800" not in words)
    try:
        settings = some_settings(Path("/var/lib"), console_args=words)
    except ValidationError:
        return
    told = configparser.ConfigParser(interpolation=None)
    told.read_string(ironic_conf.render(settings))
    for section in ("pxe", "redfish"):
        line = told[section]["kernel_append_params"]
        assert line.split() == ["nofb", "vga=normal", *words.split(), "quiet",
                                "systemd.show_status=false"]  # fmt: skip
        assert "ipa-" not in line
    script = render.render(bootspec.discovery(URL, "https://172.22.0.1", words))
    assert script.count("\n") == render.render(bootspec.discovery(URL, URL, "")).count("\n")


@pytest.mark.parametrize(
    "words",
    [
        "ipa-insecure=1", "ipa_insecure=1", "IPA-insecure=1", "ipa-ntp-server=x", "init=/bin/sh",
        "console=ttyS0\nquiet", "console=ttyS0 ; reboot", "console=$x", "console=ttyS0  quiet",
        "rdinit=/bin/sh", "root=/dev/sda1", "ds=nocloud", "ipa-api-url=https://evil",
    ],
)  # fmt: skip
def test_a_console_argument_says_where_output_goes_and_nothing_else(words: str) -> None:
    """CVE-2026-46447, CVE-2026-66138: what our own settings pass to the ramdisk is checked, too."""
    with pytest.raises(ValidationError, match=r"console_args|argument"):
        some_settings(Path("/var/lib"), console_args=words)
    with pytest.raises(Invalid):
        bootspec.discovery(URL, "https://172.22.0.1", words)


def test_a_command_line_is_no_longer_than_the_kernel_reads() -> None:
    with pytest.raises(Invalid, match="too long"):
        bootspec.discovery(URL, "https://172.22.0.1", " ".join(["console=ttyS0"] * 140))


@pytest.mark.parametrize("evil", EVIL)
def test_no_folder_changes_the_meaning_of_a_file(evil: str) -> None:
    for name in ("state_dir", "run_dir", "log_dir", "env_dir"):
        with pytest.raises(ValidationError):
            some_settings(Path("/var/lib"), **{name: Path(f"/var/lib/se{evil}ed")})
    with pytest.raises(ValidationError):
        some_settings(Path("/var/lib"), namespace=f"seed{evil}")


@given(folder=WORDS)
def test_nginx_conf_has_as_many_lines_and_braces_whatever_the_folder(folder: str) -> None:
    assume("\ud800" not in folder)
    try:
        settings = some_settings(Path("/var/lib"), state_dir=Path(f"/srv/{folder}"))
    except ValidationError:
        return
    told, wanted = nginx_conf.render(settings), nginx_conf.render(some_settings(Path("/var/lib")))
    for sign in "\n{};":
        assert told.count(sign) == wanted.count(sign)


# --- a claim's ------------------------------------------------------------------------------------


@given(st.lists(WORDS, max_size=4))
def test_a_claims_kernel_arguments_mean_themselves_to_a_shell_and_a_kernel(args: list[str]) -> None:
    try:
        kernel_args.check(args)
    except Invalid:
        return
    assert all(PLAIN.fullmatch(argument) for argument in args)
    line = " ".join(args)
    assert line.split() == args


@pytest.mark.parametrize(
    "argument",
    [
        "init=/bin/sh", "rdinit=/bin/sh", "root=/dev/sda", "ro", "ds=nocloud", "single", "1",
        "ci.ds=None", "cloud-init=disabled", "cloud_init=disabled", "ipa-insecure=1",
        "ipa_insecure=1", "systemd.run=/bin/sh", "systemd.unit=rescue.target", "rd.break", "break",
        "BOOTIF=01-52", "initrd=x", "seed.keep=x", "network-config=disabled", "ip=dhcp",
        "INIT=/bin/sh", "root-x=1",
    ],
)  # fmt: skip
def test_what_boots_and_who_configures_it_is_not_a_claims_to_say(argument: str) -> None:
    with pytest.raises(Invalid, match="not for a claim"):
        kernel_args.check([argument])


def test_what_a_claim_may_say() -> None:
    kernel_args.check([
        "console=ttyS1,115200n8", "console=tty0", "hugepagesz=1G", "hugepages=16", "iommu=pt",
        "intel_iommu=on", "isolcpus=2-7,9", "mitigations=auto,nosmt", "net.ifnames=0",
        "nvme_core.multipath=Y", "transparent_hugepage=never", "crashkernel=512M",
    ])  # fmt: skip


@pytest.mark.parametrize(
    "args", [["quiet", "quiet"], ["quiet"] * 33, ["a" * 201], ["x=" + "y" * 190] * 6, ["iommu=pt",
             "IOMMU=on"], [""], ["a b"]],
)  # fmt: skip
def test_too_many_too_long_or_twice(args: list[str]) -> None:
    with pytest.raises(Invalid):
        kernel_args.check(args)


def test_a_claims_arguments_are_checked_with_its_disks() -> None:
    with pytest.raises(Invalid, match="kernel argument"):
        disks.check(ClaimSpec(name="web", image="debian", kernel_args=["a=b\nreboot"]))
