"""Kubernetes by kubeadm: what a member does, its shell texts run with programs that stand in."""

import http.server
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning.kinds import MemberFacts
from provisioning.kinds.kubeadm import PLUGIN
from tests.fakes.a_kubeadm import (
    CONTROL,
    FACTS,
    FILES,
    FIRST,
    GOLDEN,
    MEMBERS,
    ROLES,
    WORKER,
    files,
    made_secrets,
    step,
    text,
)


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    return made_secrets()


@pytest.mark.parametrize("role", ROLES)
def test_a_members_steps_are_the_golden_ones(role: str) -> None:
    told = [asdict(one) for one in PLUGIN.steps(FACTS, ROLES[role])]
    golden = yaml.safe_load((GOLDEN / role / "steps.yaml").read_text())
    assert [{**one, "argv": [*one["argv"]], "wants": [*one["wants"]]} for one in told] == golden


@pytest.mark.parametrize(
    ("member", "names"),
    [
        (FIRST, ["containerd", "resolver", "pod network", "load balancer", "address", "bundle",
                 "programs", "kubelet", "sandbox image", "images", "init"]),
        (CONTROL, ["containerd", "resolver", "pod network", "load balancer", "address", "bundle",
                   "programs", "kubelet", "sandbox image", "images", "api", "cluster version",
                   "join", "cluster services"]),
        (WORKER, ["containerd", "resolver", "pod network", "bundle", "programs", "kubelet",
                  "sandbox image", "images", "api", "join"]),
    ],
    ids=ROLES,
)  # fmt: skip
def test_the_order(member: MemberFacts, names: list[str]) -> None:
    assert [one.name for one in PLUGIN.steps(FACTS, member)] == names


@pytest.mark.parametrize("member", [FIRST, CONTROL, WORKER], ids=ROLES)
def test_without_a_bundle_the_missing_program_is_named(member: MemberFacts) -> None:
    facts = replace(FACTS, bundle_url="", options={"programs": "/opt/bin"})
    waits = [one for one in PLUGIN.steps(facts, member) if "/opt/bin" in repr(one)]
    assert waits[0].wants[:3] == ("/opt/bin/kubeadm", "/opt/bin/kubelet", "/opt/bin/kubectl")
    assert all("/opt/bin/kubeadm" in one.wants for one in waits if one.name in ("init", "join"))
    assert not [one for one in PLUGIN.steps(facts, member) if "bundle" in repr(one)]


def test_a_worker_takes_no_images_of_a_control_plane() -> None:
    folder = "/var/lib/seed/bundle/files/images"
    names = ("coredns.tar", "kube-proxy.tar", "pause_3.10.2.tar")
    assert step(WORKER, "images").wants == ("/usr/bin/ctr", *(f"{folder}/{n}" for n in names))
    assert len(step(FIRST, "images").wants) == 8


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_each_shell_text_is_one(member: MemberFacts) -> None:
    for one in PLUGIN.steps(FACTS, member):
        assert one.argv[0].startswith("/"), "a unit's PATH is not a person's"
        if one.argv[0].endswith("sh"):
            subprocess.run([one.argv[0], "-nc", one.argv[2]], check=True, timeout=10)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="NOT CHECKED: no systemd here")
@pytest.mark.parametrize("role", ROLES)
def test_systemd_knows_all_that_stands_in_the_units(role: str) -> None:
    units = sorted((GOLDEN / role / "etc/systemd/system").iterdir())
    assert len(units) == 2
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if "is not executable" not in line] == []


class Folder(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: pytest's output is for what failed."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and where it can be fetched from."""
    folder = tmp_path / "served"
    for file in FILES:
        path = folder / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["path"].removeprefix("files/"))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Folder(*args, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def fetch(
    url: str, tmp_path: Path, secrets: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The step `bundle` of a worker, with its folders below tmp_path."""
    facts = replace(FACTS, bundle_url=url)
    listed, folder = tmp_path / "listed", tmp_path / "bundle"
    listed.write_bytes(files(WORKER, secrets, facts)["/etc/seed/kubeadm/bundle.sha256"].content)
    argv = [
        word.replace("/var/lib/seed/bundle", str(folder)).replace(
            "/etc/seed/kubeadm/bundle.sha256", str(listed)
        )
        for word in step(WORKER, "bundle", facts).argv
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return done, folder


def test_a_member_fetches_what_it_uses(
    served: tuple[Path, str], tmp_path: Path, secrets: dict[str, str]
) -> None:
    done, folder = fetch(served[1], tmp_path, secrets)
    assert done.returncode == 0, done.stderr
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "files/bin/kubeadm", "files/bin/kubelet", "files/bin/kubectl",
        "files/images/coredns.tar", "files/images/kube-proxy.tar",
        "files/images/pause_3.10.2.tar",
    }  # fmt: skip


def test_what_is_there_whole_is_not_fetched_again(
    served: tuple[Path, str], tmp_path: Path, secrets: dict[str, str]
) -> None:
    _, folder = fetch(served[1], tmp_path, secrets)
    (folder / "files/bin/kubelet").write_text("half of it")
    for path in ("files/bin/kubeadm", "files/bin/kubectl"):
        (served[0] / path).unlink()
    done, _ = fetch(served[1], tmp_path, secrets)
    assert done.returncode == 0, done.stderr
    assert (folder / "files/bin/kubelet").read_text() == "bin/kubelet"


def test_a_file_that_is_another_is_refused_by_name(
    served: tuple[Path, str], tmp_path: Path, secrets: dict[str, str]
) -> None:
    (served[0] / "files/bin/kubelet").write_text("something else")
    done, folder = fetch(served[1], tmp_path, secrets)
    assert done.returncode == 1
    assert "files/bin/kubelet of the bundle is not what it should be" in done.stdout
    assert not (folder / "files/bin/kubelet").exists()


def test_a_file_that_the_seed_does_not_have_fails(
    served: tuple[Path, str], tmp_path: Path, secrets: dict[str, str]
) -> None:
    (served[0] / "files/bin/kubelet").unlink()
    done, _ = fetch(served[1], tmp_path, secrets)
    assert done.returncode != 0
    assert "404" in done.stderr


KUBEADM = """\
#!/bin/sh
# Fails as often as the file fails has lines. Like kubeadm's own, its reset takes the CAs away.
echo "$*" >> {root}/calls
case "$1" in
  reset) rm -rf {root}/etc/kubernetes/pki ;;
  *) [ -z "{pki}" ] || cat {root}/etc/kubernetes/pki/ca.key >> {root}/seen
     [ -s {root}/fails ] && {{ sed -i 1d {root}/fails; exit 1; }}
     touch {root}/etc/kubernetes/kubelet.conf ;;
esac
"""


def last_step(member: MemberFacts, root: Path, fails: int, *, cluster: bool = False) -> list[int]:
    """Exit codes of its last step, tried until it is over, with a kubeadm that fails at first.

    cluster: whether there is one already at the address.
    """
    facts = replace(FACTS, options={"files": FILES, "programs": f"{root}/bin"})
    (root / "bin").mkdir()
    kubeadm = KUBEADM.format(root=root, pki="yes" if member.role == "control" else "")
    curl = f"#!/bin/sh\nexit {0 if cluster else 7}\n"
    for name, program in {"kubeadm": kubeadm, "curl": curl}.items():
        (root / "bin" / name).write_text(program)
        (root / "bin" / name).chmod(0o755)
    (root / "etc/kubernetes/pki").mkdir(parents=True)
    (root / "etc/kubernetes/pki/ca.key").write_text("key\n")
    (root / "fails").write_text("x\n" * fails)
    last = step(member, "init" if member.first else "join", facts)
    argv = [re.sub(r"(?<![\w/])/(etc|var)/", rf"{root}/\1/", word) for word in last.argv]
    codes = [
        subprocess.run(argv, capture_output=True, timeout=20, check=False, env={}).returncode
        for _ in range(fails + 1)
    ]
    assert (root / last.done[1:]).exists()
    return codes


@pytest.mark.parametrize(
    ("member", "cluster", "calls"),
    [
        pytest.param(FIRST, False, ["init", "init", "init"], id="the first goes on"),
        pytest.param(FIRST, True, ["join", "reset", "join", "reset", "join"],
                     id="a first that was imaged anew begins no second cluster"),
        pytest.param(CONTROL, True, ["join", "reset", "join", "reset", "join"],
                     id="a control plane begins anew"),
        pytest.param(WORKER, True, ["join", "join", "join"], id="a worker goes on"),
    ],
)  # fmt: skip
def test_a_try_that_failed_is_followed_by_one_that_can_succeed(
    member: MemberFacts, cluster: bool, calls: list[str], tmp_path: Path
) -> None:
    assert last_step(member, tmp_path, 2, cluster=cluster) == [1, 1, 0]
    told = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in told] == calls
    if member.role == "control":
        assert (tmp_path / "seen").read_text() == "key\n" * 3, "the CAs are there at each try"


def test_what_the_first_began_it_ends_though_its_cluster_is_there(tmp_path: Path) -> None:
    (tmp_path / "var/lib/seed/kubeadm").mkdir(parents=True)
    (tmp_path / "var/lib/seed/kubeadm/begun").touch()
    assert last_step(FIRST, tmp_path, 0, cluster=True) == [0]
    assert (tmp_path / "calls").read_text().split()[0] == "init"


SANDBOX = {
    "kubeadm": "echo registry/coredns:v1.14.2; echo registry/pause:3.10.2; echo warning >&2",
    "systemctl": 'echo "$*" >> {root}/calls',
    "containerd": "cat {root}/{read}/*.toml",
}


@pytest.mark.parametrize(
    ("read", "code", "says"),
    [
        ("etc/containerd/conf.d", 0, ""),
        ("elsewhere", 1, "containerd does not import /etc/containerd/conf.d"),
    ],
)
def test_containerd_is_told_the_sandbox_image_of_this_kubeadm(
    read: str, code: int, says: str, tmp_path: Path, secrets: dict[str, str]
) -> None:
    facts = replace(FACTS, options={"programs": f"{tmp_path}/bin"})
    template = tmp_path / "etc/seed/kubeadm/containerd.toml"
    for folder in ("bin", "elsewhere", "etc/seed/kubeadm"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "elsewhere/other.toml").write_text("version = 2\n")
    template.write_text(text(FIRST, secrets, "/etc/seed/kubeadm/containerd.toml"))
    for name, words in SANDBOX.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{words.format(root=tmp_path, read=read)}\n")
        program.chmod(0o755)
    one = step(FIRST, "sandbox image", replace(facts, bundle_url=""))
    argv = [re.sub(r"(?<![\w/])/etc/", f"{tmp_path}/etc/", word) for word in one.argv]
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    done = subprocess.run(
        argv, env={"PATH": path}, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout.replace(str(tmp_path), "")
    made = tomllib.loads((tmp_path / "etc/containerd/conf.d/seed.toml").read_text())
    cri = made["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "registry/pause:3.10.2"
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}
    assert (tmp_path / "calls").read_text() == "restart containerd.service\n"


CTR = """\
#!/bin/sh
echo "$*" >> {root}/calls
case "$*" in
  *" ls "*) cat {root}/there ;;
  *import*no-image*) exit 1 ;;
esac
"""
LIST = """\
#!/bin/sh
printf '%s\\n' registry/kube-proxy:v1.36.2 registry/coredns/coredns:v1.14.2 registry/etcd:3.6.8-0
"""


def imported(tmp_path: Path, there: str) -> tuple[int, list[str]]:
    """The step `images` of a worker: its exit code, and what ctr was asked for after all imports.

    there: the images that containerd has then.
    """
    (tmp_path / "bin").mkdir()
    (tmp_path / "there").write_text(there)
    for name, words in {"ctr": CTR.format(root=tmp_path), "kubeadm": LIST}.items():
        (tmp_path / "bin" / name).write_text(words)
        (tmp_path / "bin" / name).chmod(0o755)
    facts = replace(FACTS, options={"files": FILES, "programs": f"{tmp_path}/bin"})
    argv = step(WORKER, "images", facts).argv
    done = subprocess.run(
        argv, env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=20, check=False,
    )  # fmt: skip
    asked = [line.removeprefix("--namespace k8s.io images ")
             for line in (tmp_path / "calls").read_text().splitlines()]  # fmt: skip
    assert len([one for one in asked if one.startswith("import ")]) == 3
    return done.returncode, [one for one in asked if one.split()[0] in ("tag", "label")]


def test_kubelet_takes_no_image_away_that_came_with_the_bundle(tmp_path: Path) -> None:
    there = "registry/kube-proxy:v1.36.2\nregistry/coredns/coredns:v1.14.2\nsha256:1\n"
    assert imported(tmp_path, there) == (0, [
        "label registry/kube-proxy:v1.36.2 io.cri-containerd.pinned=pinned",
        "label registry/coredns/coredns:v1.14.2 io.cri-containerd.pinned=pinned",
    ])  # fmt: skip


def test_an_image_of_another_registry_gets_the_name_that_kubeadm_asks_for(tmp_path: Path) -> None:
    there = "mirror:5000/k8s/kube-proxy:v1.36.2\nregistry/coredns/coredns:v1.14.2\n"
    code, asked = imported(tmp_path, there)
    assert code == 0
    assert asked[0] == "tag mirror:5000/k8s/kube-proxy:v1.36.2 registry/kube-proxy:v1.36.2"
    assert len(asked) == 3


@pytest.mark.parametrize(("active", "calls"), [(0, 2), (3, 1)])
def test_who_resolves_names_is_told_where_it_runs(active: int, calls: int, tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ "$1" != is-active ] || exit {active}\n'
    )
    program.chmod(0o755)
    one = step(WORKER, "resolver")
    assert one.wants == ("/etc/systemd/resolved.conf.d/seed-fallback.conf",)
    subprocess.run(one.argv, env={"PATH": f"{tmp_path}:/bin"}, timeout=20, check=True)
    assert len((tmp_path / "calls").read_text().splitlines()) == calls


def test_a_member_is_well_when_its_kubelet_says_so() -> None:
    assert PLUGIN.check(FACTS, WORKER)[-1] == "http://127.0.0.1:10248/healthz"


def test_the_token_is_not_printed() -> None:
    assert "--skip-token-print" in step(FIRST, "init").argv[2]
