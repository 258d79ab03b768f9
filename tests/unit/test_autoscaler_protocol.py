"""The protocol's names and numbers, and what is made of its files."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.autoscaling import Template
from provisioning.cluster_spec import ClusterSpec, Group, scaled_wrongly
from seed.autoscaler import core_v1_pb2 as core
from seed.autoscaler import externalgrpc_pb2 as pb
from seed.autoscaler import node
from tests.unit.test_clusters import a_spec

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "externalgrpc" / "fields.txt"


def facts(messages: Any, prefix: str = "") -> Iterator[str]:
    """Each field as "Message.field = number type"."""
    for name, message in sorted(messages.items()):
        if message.GetOptions().map_entry:
            continue
        for f in message.fields:
            shown = f.message_type.full_name if f.message_type else f"{f.type}"
            yield f"{prefix}{name}.{f.name} = {f.number} {shown}"
        yield from facts(message.nested_types_by_name, f"{prefix}{name}.")


def test_names_and_numbers_are_the_published_ones() -> None:
    found = [*facts(pb.DESCRIPTOR.message_types_by_name)]
    for method in pb.DESCRIPTOR.services_by_name["CloudProvider"].methods:
        found.append(f"rpc {method.name} {method.input_type.name} {method.output_type.name}")
    found += [f"core {line}" for line in facts(core.DESCRIPTOR.message_types_by_name)]
    assert "\n".join(found) + "\n" == GOLDEN.read_text()


def test_what_is_made_of_the_protocol_is_made_of_this_one(tmp_path: Path) -> None:
    files = sorted((ROOT / "seed" / "autoscaler").glob("*.proto"))
    argv = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", f"--python_out={tmp_path}"]
    named = [str(path.relative_to(ROOT)) for path in files]
    subprocess.run([*argv, *named], cwd=ROOT, check=True, timeout=60)
    for path in files:
        made = tmp_path / "seed" / "autoscaler" / f"{path.stem}_pb2.py"
        kept = path.with_name(f"{path.stem}_pb2.py")
        assert made.read_text() == kept.read_text(), "make protos"


def test_a_node_is_written_as_kubernetes_reads_it() -> None:
    """By protoc's own decoder, which knows no name of ours: number, then content."""
    made = node.of(Template({"a": "b"}, ("k:NoExecute",), 4, 1 << 30, 0), "web-template")
    argv = [sys.executable, "-m", "grpc_tools.protoc", "--decode_raw"]
    done = subprocess.run(argv, input=made, capture_output=True, check=True, timeout=60)
    text = re.sub(r"\s+", " ", done.stdout.decode())
    assert '1 { 1: "web-template"' in text
    assert '11 { 1: "a" 2: "b" }' in text
    assert '2 { 3: "seed://web-template" 5 { 1: "k" 3: "NoExecute" } }' in text
    assert '1 { 1: "cpu" 2 { 1: "4" } }' in text
    assert '2 { 1: "memory" 2 { 1: "1020054732" } }' in text
    assert '4 { 1: "Ready" 2: "True" }' in text
    assert "ephemeral" not in text, "nobody knows its size"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"workers": {"autoscale": {"min": 3, "max": 2}}}, "min 3 is more than max 2"),
        ({"workers": {"autoscale": {"min": -1, "max": 2}}}, "workers.autoscale.min"),
        ({"workers": {"autoscale": {"min": 0, "max": 0}}}, "workers.autoscale.max"),
        ({"workers": {"autoscale": {"min": 0, "max": 501}}}, "workers.autoscale.max"),
        ({"workers": {"autoscale": {"min": True, "max": 2}}}, "workers.autoscale.min"),
        ({"control": {"autoscale": {"min": 1, "max": 3}}}, "control.autoscale: only workers"),
        ({"kind": "swarm", "version": "", "workers": {"autoscale": {"min": 1, "max": 3}}},
         "swarm has no Cluster Autoscaler; these have: kubeadm"),
    ],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        a_spec(**told)


def test_only_a_new_cluster_must_be_within_its_limits() -> None:
    spec = a_spec(workers={"count": 5, "autoscale": {"min": 1, "max": 4}})
    assert scaled_wrongly(spec) == "workers.count: 5 is not within autoscale, 1 to 4"
    assert ClusterSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert not scaled_wrongly(a_spec(workers={"count": 4, "autoscale": {"min": 1, "max": 4}}))
    assert not scaled_wrongly(a_spec())
    wish = Group(count=1, autoscale={"min": 1, "max": 2}, layout="x").wish("web", "debian", ())
    assert "autoscale" not in wish.model_dump()
