"""Add-ons of a Kubernetes cluster: what each gives to a member, and what is refused before."""

import re
import subprocess
import tomllib
from base64 import b64decode, b64encode
from dataclasses import asdict, replace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from provisioning import addons as package
from provisioning import chosen_addons, plugins
from provisioning.kinds import ClusterFacts, DataDisk, MemberFacts
from provisioning.kinds.kubeadm import PLUGIN as KUBEADM
from tests.fakes import kubernetes_objects
from tests.fakes.a_kubeadm import CONTROL, FIRST, WORKER, config
from tests.fakes.an_addon import (
    DISKS,
    GOLDEN,
    OPTIONS,
    SECRETS,
    files_for,
    members,
    secrets,
    with_addons,
)

NAMES = (
    "calico", "ceph", "cilium", "flannel", "kata", "metallb", "nfs", "openstack-ccm",
    "storage-local",
)  # fmt: skip
STORED = members()[4]
ROLES = {"first": FIRST, "worker": STORED}


def parts(facts: ClusterFacts, member: MemberFacts) -> dict[str, Any]:
    return {one.path: one for one in chosen_addons.parts(facts, member, secrets())}


def objects(facts: ClusterFacts, path: str) -> Any:
    return kubernetes_objects.read(parts(facts, FIRST)[path].content.decode())


def own_steps(facts: ClusterFacts, member: MemberFacts) -> list[Any]:
    return [*chosen_addons.early(facts, member), *chosen_addons.steps(facts, member)]


def faults(facts: ClusterFacts) -> list[tuple[str, str]]:
    found = KUBEADM.faults(facts)
    assert all(one.remedy and one.sentence for one in found)
    return [(one.field, one.sentence) for one in found]


# --- what each gives ------------------------------------------------------------------------------


def test_they_are_found_as_plugins() -> None:
    assert tuple(sorted(plugins.load(package))) == NAMES


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", NAMES)
def test_a_members_files_and_steps_are_the_golden_ones(name: str, role: str) -> None:
    facts, folder = with_addons(name), GOLDEN / name / role
    made = {path: one.content.decode() for path, one in parts(facts, ROLES[role]).items()}
    there = {p for p in folder.rglob("*") if p.is_file() and p.name != "steps.yaml"}
    assert {f"/{p.relative_to(folder)}" for p in there} == set(made)
    for path, content in made.items():
        assert content == (folder / path[1:]).read_text(), path
    told = [asdict(one) for one in own_steps(facts, ROLES[role])]
    golden = yaml.safe_load((folder / "steps.yaml").read_text())
    assert [{**one, "argv": [*one["argv"]], "wants": [*one["wants"]]} for one in told] == golden


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_knows_all_that_is_applied(name: str) -> None:
    facts = with_addons(name)
    found = [
        one for path, part in parts(facts, FIRST).items()
        if kubernetes_objects.is_file_of_objects(path)
        for one in kubernetes_objects.read(part.content.decode())
    ]  # fmt: skip
    assert found
    named = [(one.kind, getattr(one, "metadata", None) and one.metadata.name) for one in found]
    assert len(named) == len(set(named)), "an object stands there twice"


def test_the_check_of_that_is_strict() -> None:
    facts = with_addons("storage-local")
    good = parts(facts, FIRST)["/etc/seed/addons/storage-local/class.yaml"].content.decode()
    good += yaml.safe_dump_all(chosen_addons.objects(facts, STORED).values(), explicit_start=True)
    kubernetes_objects.read(good)
    for old, new in (
        ("volumeBindingMode", "volumebindingmode"),
        ("storage.k8s.io/v1", "storage.k8s.io/v1beta1"),
        ("nodeAffinity:\n", "nodeAffinities:\n"),
        ("storage: '960197124096'", "storage: 960197124096"),
        ("WaitForFirstConsumer", "waitForFirstConsumer"),
        ("name: web-worker-4-", "name: Web_worker-4-"),
    ):
        assert old in good
        with pytest.raises(ValidationError):
            kubernetes_objects.read(good.replace(old, new, 1))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_secret_is_in_objects_of_that_kind_alone(name: str) -> None:
    facts = with_addons(name)
    hidden = [line for told in SECRETS.values() for line in told.splitlines() if "secret=" in line]
    hidden += [SECRETS["ceph-key"]]
    hidden += [b64encode(told.encode()).decode() for told in SECRETS.values()]
    for path, part in parts(facts, FIRST).items():
        content = part.content.decode()
        if not any(secret in content for secret in hidden):
            continue
        assert part.mode == 0o600, path
        assert {one["kind"] for one in yaml.safe_load_all(content)} == {"Secret"}
    for member in (FIRST, CONTROL, STORED):
        told = repr([asdict(one) for one in own_steps(facts, member)])
        assert not [secret for secret in hidden if secret in told]
    for member in (CONTROL, STORED):
        content = "".join(part.content.decode() for part in parts(facts, member).values())
        assert not [secret for secret in hidden if secret in content]


@pytest.mark.parametrize("name", NAMES)
def test_each_wait_ends_before_the_try_does(name: str) -> None:
    for member in (FIRST, CONTROL, STORED):
        for one in own_steps(with_addons(name), member):
            assert one.argv[0].startswith("/"), "a unit's PATH is not a person's"
            told = " ".join(one.argv)
            waits = [int(s) for s in re.findall(r"--(?:request-)?timeout=(\d+)s?\b", told)]
            assert all(seconds < one.try_seconds for seconds in waits)
            if "kubectl" in told:
                assert waits, "kubectl waits for ever by itself"
            if " apply " in told:
                assert "--server-side --force-conflicts --field-manager=seed" in told
            if one.argv[0].endswith("sh"):
                subprocess.run([one.argv[0], "-nc", one.argv[2]], check=True, timeout=10)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_for_the_whole_cluster_is_done_once(name: str) -> None:
    facts = with_addons(name)
    for member in (CONTROL, STORED):
        assert "kubectl" not in repr(own_steps(facts, member))
    assert "kubectl" in repr(own_steps(facts, FIRST))


# --- with kubeadm ---------------------------------------------------------------------------------


def test_they_come_after_the_cluster_and_the_pods_network_is_the_first_of_them() -> None:
    facts = with_addons("nfs", "kata", "flannel")
    steps = [one.name for one in KUBEADM.steps(facts, FIRST)]
    begun = steps.index("init")
    assert steps[begun + 1 :][:2] == ["flannel manifest", "flannel kube-flannel-ds"]
    assert "nfs manifest" in steps[begun:]
    steps = [one.name for one in KUBEADM.steps(facts, WORKER)]
    assert (steps[0], steps[-1]) == ("kata cpu", "kata files")


def test_who_leads_alone_fetches_the_manifests() -> None:
    facts = with_addons("flannel", "nfs")
    listed = {
        member.name: {
            line.split()[1]
            for part in KUBEADM.files(facts, member, secrets())
            if part.path.endswith("bundle.sha256")
            for line in part.content.decode().splitlines()
        }
        for member in (FIRST, CONTROL, WORKER)
    }
    manifests = {"files/manifests/flannel.yaml", "files/manifests/csi-driver-nfs.yaml"}
    assert manifests < listed[FIRST.name]
    assert not manifests & (listed[CONTROL.name] | listed[WORKER.name])
    assert "files/images/nfsplugin_v1.2.3.tar" in listed[WORKER.name]


def test_the_first_that_has_a_newer_bundle_applies_what_that_brings() -> None:
    before = replace(FIRST, leads=False)
    leads = replace(CONTROL, leads=True)
    facts = with_addons("flannel", "nfs")
    assert not [one for one in KUBEADM.steps(facts, before) if "manifest" in one.name]
    names = [one.name for one in KUBEADM.steps(facts, leads)]
    assert names.index("join") < names.index("cluster services") < names.index("flannel manifest")
    assert "nfs manifest" in names
    path = "/etc/seed/addons/flannel/kustomization.yaml"
    assert path in {part.path for part in KUBEADM.files(facts, leads, secrets())}


def test_containerd_knows_the_runtime_where_pods_run() -> None:
    facts = with_addons("kata")
    for member, there in ((WORKER, True), (CONTROL, False)):
        (part,) = (
            one for one in KUBEADM.files(facts, member, secrets())
            if one.path.endswith("containerd.toml")
        )  # fmt: skip
        cri = tomllib.loads(part.content.decode())["plugins"]["io.containerd.grpc.v1.cri"]
        assert ("kata" in cri["containerd"]["runtimes"]) is there
        assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}
    shim = tomllib.loads(chosen_addons.containerd(facts, WORKER))
    kata = shim["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]["kata"]
    assert kata["runtime_type"] == "io.containerd.kata.v2"
    assert kata["options"]["ConfigPath"].endswith("configuration-qemu.toml")


def test_kubelets_are_told_of_no_cloud_and_only_load_balancers_are_its_work() -> None:
    facts = with_addons("openstack-ccm")
    deployment = objects(facts, "/etc/seed/addons/openstack-ccm/controller.yaml")[-1]
    (container,) = deployment.spec.template.spec.containers
    assert [a for a in container.args if "controllers" in a] == ["--controllers=service"]
    assert container.image == "images.example.org/openstack-cloud-controller-manager:v1.2.3"
    rules = objects(facts, "/etc/seed/addons/openstack-ccm/controller.yaml")[1].rules
    (nodes,) = (rule.verbs for rule in rules if rule.resources == ["nodes"])
    assert nodes == ["get", "list", "watch"]
    for member in (FIRST, WORKER):
        read = config(member, secrets(), addons=facts.addons, options=facts.options,
                      given=facts.given)  # fmt: skip
        (registration,) = (o.nodeRegistration for o in read.values() if hasattr(o, "timeouts"))
        given = {arg.name: arg.value for arg in registration.kubeletExtraArgs}
        assert given["provider-id"] == f"seed://{member.node_uuid}"
        assert "cloud-provider" not in given


def volumes_of(facts: ClusterFacts) -> Any:
    assert chosen_addons.objects(facts, FIRST) == {}, "it has no such disk"
    made = chosen_addons.objects(facts, STORED)
    assert [f"/api/v1/persistentvolumes/{one['metadata']['name']}" for one in made.values()] == [
        *made
    ]
    return kubernetes_objects.read(yaml.safe_dump_all(made.values()))


def test_a_disk_is_a_volume_of_its_node_whatever_its_kernel_calls_it() -> None:
    facts = with_addons("storage-local", options={"storage-local": {}})
    (storage,) = objects(facts, "/etc/seed/addons/storage-local/class.yaml")
    assert (storage.metadata.name, storage.volumeBindingMode) == ("local", "WaitForFirstConsumer")
    volumes = volumes_of(facts)
    assert [one.spec.local.path for one in volumes] == [f"/dev/seed/{d.wwn}" for d in DISKS]
    for one in volumes:
        (term,) = one.spec.nodeAffinity.required.nodeSelectorTerms
        assert term.matchExpressions[0].values == [STORED.name]
    rules = parts(facts, STORED)["/etc/udev/rules.d/61-seed-disks.rules"].content.decode()
    assert all(f'=="{d.wwn}", SYMLINK+="seed/{d.wwn}"' in rules for d in DISKS)
    alone = with_addons("storage-local", options={"storage-local": {"role": "journal"}})
    assert len(volumes_of(alone)) == 1


def test_control_planes_that_run_pods_announce_addresses_too() -> None:
    alone = with_addons("metallb", members=members()[:3])
    assert "metallb label" in [one.name for one in own_steps(alone, CONTROL)]
    assert own_steps(with_addons("metallb"), CONTROL) == []


def test_what_is_given_reaches_the_object_that_its_pods_mount() -> None:
    (made,) = objects(with_addons("openstack-ccm"), "/etc/seed/addons/openstack-ccm/secret.yaml")
    told = {name: b64decode(value).decode() for name, value in made.data.items()}
    assert told == {"cloud.conf": SECRETS["openstack"], "ca.crt": SECRETS["openstack-ca"]}
    (made,) = objects(with_addons("ceph"), "/etc/seed/addons/ceph/secret.yaml")
    assert b64decode(made.data["userKey"]).decode() == SECRETS["ceph-key"]


def test_one_node_has_one_operator_of_cilium() -> None:
    """Its chart's two are never on one node, and the wait for them would not end."""
    path = "/etc/seed/addons/cilium/kustomization.yaml"
    assert not objects(with_addons("cilium"), path)[0].replicas
    (alone,) = objects(with_addons("cilium", members=members()[:1]), path)[0].replicas
    assert (alone.name, alone.count) == ("cilium-operator", 1)


def test_ceph_asks_for_no_more_nodes_than_there_are() -> None:
    path = "/etc/seed/addons/ceph/kustomization.yaml"
    assert objects(with_addons("ceph"), path)[0].replicas[0].count == 2
    alone = with_addons("ceph", members=members()[:1])
    assert objects(alone, path)[0].replicas[0].count == 1


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_had(name: str) -> None:
    assert faults(with_addons(name)) == []
    without = replace(with_addons(name), bundle_url="")
    asked = {} if name != "openstack-ccm" else {"image": "images.example.org/ccm:v1.35.0"}
    without.options["addons"].setdefault(name, {}).update(asked)
    files = {**without.options, "files": []}
    assert faults(replace(without, options=files)) == []


def test_most_go_together() -> None:
    networks = {"calico", "flannel"}
    assert faults(with_addons(*(name for name in NAMES if name not in networks))) == []


def changed(name: str, **more: Any) -> dict[str, Any]:
    """Its options, with more, or with one less where that is ..."""
    told = {**OPTIONS.get(name, {}), **more}
    return {name: {word: value for word, value in told.items() if value is not ...}}


@pytest.mark.parametrize(
    ("names", "options", "field", "says"),
    [
        (("dashboard",), {}, "addons", "there is no add-on dashboard"),
        (("nfs", "nfs"), changed("nfs"), "addons", "nfs stands there 2 times"),
        (("cilium", "calico"), {}, "addons", "cilium and calico each make the pods' network"),
        (("flannel",), {"nfs": {}}, "options.addons.nfs", "nfs is not among addons"),
        (("flannel",), {"flannel": {"mtu": 1400}}, "options.addons.flannel.mtu", "Extra inputs"),
        (("flannel",), {"flannel": "vxlan"}, "options.addons.flannel", "valid dictionary"),
        (("flannel",), ["flannel"], "options.addons", "no table"),
        (("metallb",), {}, "options.addons.metallb.network", "Field required"),
        (("metallb",), changed("metallb", count=...), "options.addons.metallb", "count"),
        (("metallb",), changed("metallb", range="10.40.0.1"), "options.addons.metallb", "one of"),
        (("metallb",), changed("metallb", count=257), "options.addons.metallb.count", "256"),
        (("metallb",), changed("metallb", count=True), "options.addons.metallb.count", "integer"),
        (("metallb",), changed("metallb", count=..., range="10.40.0.9-10.40.0.1"),
         "options.addons.metallb.range", "from a first to a last"),
        (("nfs",), changed("nfs", server="nas; reboot"), "options.addons.nfs.server", "pattern"),
        (("nfs",), changed("nfs", share="srv"), "options.addons.nfs.share", "pattern"),
        (("nfs",), changed("nfs", share="/srv/$(x)"), "options.addons.nfs.share", "pattern"),
        (("nfs",), changed("nfs", mount_options=["rw,nfsvers=4"]),
         "options.addons.nfs.mount_options.0", "pattern"),
        (("nfs",), changed("nfs", storage_class="Nfs"), "options.addons.nfs.storage_class",
         "pattern"),
        (("ceph",), changed("ceph", fsid="b9127830"), "options.addons.ceph.fsid", "UUID"),
        (("ceph",), changed("ceph", monitors=[]), "options.addons.ceph.monitors", "at least 1"),
        (("ceph",), changed("ceph", monitors=["a b"]), "options.addons.ceph.monitors.0",
         "pattern"),
        (("ceph",), changed("ceph", pool="a/b"), "options.addons.ceph.pool", "pattern"),
        (("ceph",), changed("ceph", user="client.pods"), "options.addons.ceph.user",
         "without client.: pods"),
        (("ceph",), changed("ceph", key_secret="cephx"), "options.addons.ceph.key_secret",
         "no secret named cephx"),
        (("ceph",), changed("ceph", key=SECRETS["ceph-key"]), "options.addons.ceph.key",
         "Extra inputs"),
        (("openstack-ccm",), changed("openstack-ccm", cloud_conf_secret="other"),
         "options.addons.openstack-ccm.cloud_conf_secret", "no secret named other"),
        (("openstack-ccm",), changed("openstack-ccm", ca_secret="other"),
         "options.addons.openstack-ccm.ca_secret", "no secret named other"),
        (("openstack-ccm",), changed("openstack-ccm", image="a b"),
         "options.addons.openstack-ccm.image", "pattern"),
        (("storage-local",), changed("storage-local", role="fast"),
         "options.addons.storage-local.role", "no node has a data disk for fast"),
        (("storage-local",), changed("storage-local", mode="Raw"),
         "options.addons.storage-local.mode", "Filesystem"),
        (("kata",), {"kata": {"memory": "much"}}, "options.addons.kata.memory", "pattern"),
        (("nfs", "ceph"), changed("nfs") | changed("ceph", default=True),
         "options.addons.ceph.default", "nfs has the default StorageClass"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_by_its_field(
    names: tuple[str, ...], options: Any, field: str, says: str
) -> None:
    found = faults(with_addons(*names, options=options))
    assert {name for name, sentence in found if says in sentence} == {field}, found
    assert SECRETS["ceph-key"] not in repr(found)


def test_two_classes_of_one_name_are_refused() -> None:
    options = {"nfs": {**OPTIONS["nfs"], "storage_class": "ceph"}, **changed("ceph")}
    found = faults(with_addons("nfs", "ceph", options=options))
    assert [field for field, _ in found] == [
        "options.addons.nfs.storage_class", "options.addons.ceph.storage_class",
    ]  # fmt: skip


def test_an_add_on_that_makes_the_pods_network_takes_the_place_of_the_bridge() -> None:
    facts = with_addons("flannel")
    both = replace(facts, options={**facts.options, "cni": "bridge"})
    assert [field for field, _ in faults(both)] == ["options.cni"]
    assert chosen_addons.cni(facts) == "flannel"
    assert chosen_addons.cni(with_addons("nfs")) == "bridge"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "storage-local"])
def test_what_the_bundle_lacks_is_named(name: str) -> None:
    facts = with_addons(name)
    for missing in files_for(name):
        left = [file for file in facts.options["files"] if file != missing]
        found = faults(replace(facts, options={**facts.options, "files": left}))
        word = missing["path"].rpartition("/")[2].partition("_")[0]
        assert [f for f, says in found if word in says and name in says] == ["bundle"], found


def test_a_cpu_that_is_known_not_to_run_machines_is_refused() -> None:
    facts = with_addons("kata")
    without = replace(STORED, virtualization=False)
    found = faults(replace(facts, members=(*facts.members[:4], without)))
    assert found == [("addons", "kata: the CPU of web-worker-4 cannot run virtual machines")]
    assert faults(replace(facts, members=(*facts.members[:4], replace(without, virtualization=True)
                                          ))) == []  # fmt: skip
    no_pods = replace(FIRST, virtualization=False)
    assert faults(replace(facts, members=(no_pods, *facts.members[1:]))) == []


def test_a_disk_without_a_wwn_is_refused_by_its_serial() -> None:
    facts = with_addons("storage-local")
    for wwn in ("", 'x"; reboot', "0x5000 c500"):
        disks = (DataDisk("data", wwn, "SERIAL9", 10**12),)
        found = faults(replace(facts, members=(*facts.members[:4], replace(STORED, disks=disks))))
        assert found == [
            ("options.addons.storage-local.role", "the disk SERIAL9 of web-worker-4 has no WWN")
        ]


def test_no_address_kept_is_a_fault() -> None:
    found = faults(with_addons("metallb", ranges={}))
    assert [field for field, _ in found] == ["options.addons.metallb.network"]


def test_a_manifest_that_was_read_is_held_to_what_it_names() -> None:
    """Another tag than its archive's would be pulled from somewhere, and by digest nothing is."""
    facts = with_addons("flannel")

    def told(*images: str) -> list[tuple[str, str]]:
        files = [
            {**file, "images": images} if file["role"] == "manifest" else file
            for file in facts.options["files"]
        ]
        return faults(replace(facts, options={**facts.options, "files": files}))

    host = "images.example.org"
    assert told(f"{host}/flannel:v1.2.3", f"{host}/flannel-cni-plugin:v1.2.3") == []
    assert told("other.example.org/x/flannel:v1.2.3") == [], "by its file's name"
    for image in (
        f"{host}/flannel:v1.2.4",
        f"{host}/busybox:1",
        f"{host}/flannel@sha256:{'0' * 64}",
    ):
        ((field, says),) = told(image, f"{host}/flannel-cni-plugin:v1.2.3")
        assert (field, image in says) == ("bundle", True)
