"""Kata Containers: pods that ask for the runtime class `kata` run in a virtual machine each.

Its files come out of the image kata-deploy, which has all of a release below
/opt/kata-artifacts/opt/kata; the image's own program, which would change containerd's
configuration, never runs.
"""

from typing import Annotated, Final

from pydantic import StringConstraints

from provisioning import addons
from provisioning.addons import Addon, _kubectl
from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step
from provisioning.targets import PartSpec

HOME: Final = "/opt/kata"
SHIM: Final = f"{HOME}/bin/containerd-shim-kata-v2"
CONFIG: Final = f"{HOME}/share/defaults/kata-containers/configuration-qemu.toml"
IMAGE: Final = "kata-deploy"
# /proc/cpuinfo has neither where the firmware switched it off.
_CPU = """\
grep -qwE "vmx|svm" /proc/cpuinfo || {{
  echo "{member} cannot run virtual machines: its CPU has neither vmx nor svm, or they are off"
  exit 1
}}
modprobe -a kvm_intel 2>/dev/null || modprobe -a kvm_amd 2>/dev/null || :
[ -c /dev/kvm ] || {{ echo "{member} has no /dev/kvm"; exit 1; }}
"""
_FILES = """\
if [ ! -e {shim} ]; then
  image=$(ctr --namespace k8s.io images list --quiet | grep "/{image}:" | head -n 1)
  [ "$image" ] || {{ echo "containerd has no image {image}"; exit 1; }}
  place=$(mktemp -d)
  trap 'ctr --namespace k8s.io images unmount --rm "$place" >/dev/null; rmdir "$place"' EXIT
  ctr --namespace k8s.io images mount "$image" "$place" >/dev/null
  rm -rf {home}.new
  cp -a "$place/opt/kata-artifacts/opt/kata" {home}.new
  rm -rf {home}
  mv {home}.new {home}
fi
[ -e {config} ] || {{ echo "{config} is not there: is {image} of another release?"; exit 1; }}
"""
_CONTAINERD = f"""\
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
    runtime_type = "io.containerd.kata.v2"
    runtime_path = "{SHIM}"
    privileged_without_host_devices = true
    pod_annotations = ["io.katacontainers.*"]
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata.options]
      ConfigPath = "{CONFIG}"
"""


class Options(addons.Options):
    """memory, cpu: what a virtual machine itself takes, beside its pod: Kubernetes quantities."""

    memory: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}(Mi|Gi)$")] = "320Mi"
    cpu: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}m?$")] = "250m"


class Kata(Addon):
    name = "kata"
    images = (IMAGE,)
    options = Options

    def faults(self, facts: ClusterFacts, options: Options) -> list[Fault]:
        return [
            Fault(
                "addons",
                f"kata: the CPU of {member.name} cannot run virtual machines",
                "Take other nodes; or switch it on in the firmware, and `seed node inspect NAME`.",
            )
            for member in facts.members
            if addons.runs_pods(facts, member) and member.virtualization is False
        ]

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        if not member.leads:
            return []
        made = {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "kata"},
            "handler": "kata",
            "overhead": {"podFixed": {"memory": options.memory, "cpu": options.cpu}},
        }
        return [_kubectl.part(_kubectl.path(self.name, "runtime-class.yaml"), made)]

    def early(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        if not addons.runs_pods(facts, member):
            return []
        return [_shell("cpu", _CPU.format(member=member.name))]

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        found = []
        if addons.runs_pods(facts, member):
            text = _FILES.format(shim=SHIM, image=IMAGE, home=HOME, config=CONFIG)
            found.append(_shell("files", text, ("/usr/bin/ctr",)))
        if member.leads:
            made = _kubectl.path(self.name, "runtime-class.yaml")
            found.append(_kubectl.apply(facts, self.name, made, what="runtime class"))
        return found

    def containerd(self) -> str:
        return _CONTAINERD


def _shell(what: str, text: str, wants: tuple[str, ...] = ()) -> Step:
    return Step(f"kata {what}", ("/bin/sh", "-euc", text), wants, try_seconds=600)


PLUGIN = Kata()
