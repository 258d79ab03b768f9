"""Class documents: what is taken, and in which one sentence the rest is refused."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.class_text import parse, written
from provisioning.classes import Document, document_of, matches
from provisioning.errors import Invalid

settings.register_profile("busy", deadline=None, max_examples=50)  # other work slows the machine
settings.load_profile("busy")

WHOLE = """
name: storage
priority: 10
match:
  vendor: Dell*
  model: [PowerEdge R740*, "*XC740*"]
  memory_mib: {min: 200000}
  drives:
    - {media: ssd, size_gb: 960, count: {min: 1}}
resource_class: big.storage
traits: [CUSTOM_NVME_4, HW_CPU_X86_VMX]
capabilities: {disks: many}
bom:
  cpus: {count: 2, model: "*6338*"}
  memory_mib: 262144
  drives:
    - {count: 4, media: ssd, size_gb: 960}
  nics:
    - {count: 2, speed_mbps: {min: 25000}}
  bios: {at_least: 2.10}
  bmc: 6.10
"""
LEAST = "name: x\nmatch: {vendor: a}\nresource_class: y\n"


def with_match(rule: str) -> str:
    return f"name: x\nmatch: {{{rule}}}\nresource_class: y\n"


def test_a_document_comes_back_as_it_was_written() -> None:
    document = parse(WHOLE)
    assert parse(written(document)) == document
    assert document_of(document.stored()) == document


def test_a_version_stays_the_text_it_was() -> None:
    bom = parse(WHOLE).bom
    assert bom.bios is not None
    assert bom.bmc is not None
    assert (bom.bios.at_least, bom.bmc.exact) == ("2.10", "6.10")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("a: &a [1]\nb: *a", "aliases (*) are not taken (line 2)", id="alias"),
        pytest.param("[" * 9000, "more than 8 levels", id="deep"),
        pytest.param("[", "expected the node content", id="half a list"),
        pytest.param("name: x\nname: y", "name twice (line 1)", id="key twice"),
        pytest.param("? [a]\n: b", "unhashable key", id="list as a key"),
        pytest.param("a: 1\n---\nb: 2", "but found another document", id="two documents"),
        pytest.param("\0", "it cannot be read", id="NUL"),
        pytest.param("!!python/object/apply:os.system [a]", "not a map", id="tag"),
        pytest.param("", "not a map", id="nothing"),
        pytest.param("#" * 70_000, "longer than 64 KiB", id="long"),
        pytest.param("name: x", "at match: field required (and 1 more)", id="too little"),
        pytest.param(LEAST + "color: red", "at color: there is no such key", id="wrong key"),
        pytest.param(with_match("vendr: a"), "match.vendr: there is no such key", id="wrong rule"),
        pytest.param(with_match(""), "at match: at least one rule", id="no rule"),
        pytest.param(with_match("drives: []"), "at match: at least one rule", id="empty rule"),
        pytest.param(with_match("vendor: ''"), "match.vendor.0: string should", id="empty glob"),
        pytest.param(with_match("vendor: {a: b}"), "match.vendor.0: a text must", id="map"),
        pytest.param(with_match("firmware: efi"), "'uefi' or 'bios'", id="boot mode"),
        pytest.param(with_match("cpu_count: two"), "a whole number", id="word for number"),
        pytest.param(with_match("cpu_count: 1.5"), "a whole number", id="half a CPU"),
        pytest.param(with_match("cpu_count: -1"), "greater than or equal to 0", id="negative"),
        pytest.param(with_match("cpu_count: 513"), "cpu_count: more than 512", id="CPUs"),
        pytest.param(with_match("memory_mib: 3000000000"), "memory_mib: more than", id="memory"),
        pytest.param(with_match("memory_mib: " + "9" * 5000), "the number is absurd", id="huge"),
        pytest.param(with_match("memory_mib: {}"), "give min, max or both", id="no ends"),
        pytest.param(with_match("memory_mib: {min: 5, max: 2}"), "min 5 is more than", id="span"),
        pytest.param(with_match("drives: {count: 1}"), "match.drives: a list must", id="no list"),
        pytest.param(with_match("drives: [{media: ssd}]"), "drives.0.count: field", id="no count"),
        pytest.param(with_match("nics: [5]"), "match.nics.0: a map of keys", id="no map"),
        pytest.param(LEAST + "priority: 1001", "at priority: input should be", id="priority"),
        pytest.param(LEAST + "traits: [custom_x]", "at traits.0: a trait is CUSTOM_", id="lower"),
        pytest.param(LEAST + "traits: [CUSTOM_]", "at traits.0: a trait is CUSTOM_", id="bare"),
        pytest.param(LEAST + "traits: [HW_NONE]", "at traits.0: a trait is CUSTOM_", id="no such"),
        pytest.param(LEAST + 'traits: ["CUSTOM_A\\n"]', "at traits.0", id="line end"),
        pytest.param(
            LEAST + "capabilities: {boot_mode: uefi}", "boot_mode is learnt", id="boot_mode"
        ),
        pytest.param(LEAST + 'capabilities: {a: "b,c:d"}', "at capabilities.a", id="comma"),
        pytest.param(LEAST + "bom: {bios: {}}", "at bom.bios: give a version", id="no version"),
        pytest.param(
            "name: a b\nmatch: {vendor: a}\nresource_class: y",
            "at name: only letters, digits",
            id="name",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(Invalid) as error:
        parse(text)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250
    assert error.value.remedy


def refusal(text: str) -> str:
    try:
        parse(text)
    except Invalid as error:
        return str(error)
    return ""


@given(st.text(max_size=300))
def test_any_text_is_a_document_or_refused(text: str) -> None:
    assert "\n" not in refusal(text)


@given(st.text(min_size=1, max_size=300))
def test_any_key_is_refused_in_one_line(key: str) -> None:
    said = refusal(WHOLE + f"\n{json.dumps(key)}: 1\n")
    assert said
    assert said.isprintable()
    assert len(said) < 250


yaml_like = st.recursive(
    st.text(max_size=8) | st.integers() | st.none() | st.floats(),
    lambda more: st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=5), more),
    max_leaves=8,
)


@given(st.sampled_from(list(Document.model_fields)), yaml_like)
def test_any_value_at_any_key_is_a_document_or_refused(key: str, value: object) -> None:
    told = yaml.safe_load(WHOLE) | {key: value}
    assert len(refusal(json.dumps(told))) < 250


@pytest.mark.parametrize(
    ("glob", "text", "fits"),
    [
        pytest.param("PowerEdge R740*", "poweredge r740xd", True, id="any case"),
        pytest.param("PowerEdge R740", "PowerEdge R740xd", False, id="exact"),
        pytest.param("R?40", " R740 ", True, id="spaces around"),
        pytest.param("a.c", "abc", False, id="a dot is a dot"),
        pytest.param("[[]x]", "[x]", True, id="bracket"),
    ],
)
def test_globs(glob: str, text: str, fits: bool) -> None:
    assert matches((glob,), text) is fits


def test_a_glob_of_stars_takes_no_time() -> None:
    assert not matches(("*a" * 300 + "b",), "a" * 255)
