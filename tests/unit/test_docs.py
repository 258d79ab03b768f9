"""What the documents say is so: commands, targets, files and sentences are the code's."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from seed.cli import app

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("seed", "api", "images", "ipxe", "provisioning")
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
HEADINGS = ["## Context", "## Decision", "## Price", "## Rejected", "## Revisit if"]
CODE = sorted(f for name in PACKAGES for f in (ROOT / name).rglob("*.py"))
CLI = typer.main.get_command(app)

FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
ELSEWHERE = re.compile(r"[|<>;&]")  # what follows is the shell's

NOT_YET: set[str] = set()
"""Named by remedies before it exists; the test below fails when it does, or is named no more."""


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def blocks(text: str) -> Iterator[str]:
    """Lines of code blocks, without a prompt."""
    for block in FENCED.findall(text):
        yield from (line.removeprefix("$ ") for line in block.splitlines())
    yield from INDENTED.findall(FENCED.sub("", text))


def spans(text: str) -> list[str]:
    return INLINE.findall(FENCED.sub("", text))


def words_of(line: str) -> list[str]:
    return shlex.split(ELSEWHERE.split(line)[0], comments=True)


def wrong(line: str, *, placeholders: bool) -> str:
    """Why `line` is no command of ours; empty if it is one.

    placeholders: words such as NAME stand for values, and what is required may be left out.
    """
    command: Any = CLI
    words = words_of(line)[1:]
    if words[:1] == ["--project"] and words[2:] not in ([], ["..."]):  # of every verb
        words = words[2:]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"{line!r}: there is no {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands") or "--help" in words:
        return ""
    try:
        command.make_context("seed", words)
    except typer.BadParameter as error:
        return "" if placeholders else f"{line!r}: {error.format_message()}"
    except Exception as error:
        return f"{line!r}: {error}"
    return ""


def leaves(command: Any = CLI, path: str = "seed") -> Iterator[tuple[str, Any]]:
    """Every verb that people see, with its whole name."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, part in command.commands.items():
        if not part.hidden:
            yield from leaves(part, f"{path} {name}")


@pytest.mark.parametrize("doc", DOCS, ids=ids(DOCS))
def test_commands_parse(doc: Path) -> None:
    text = doc.read_text()
    said = [wrong(line, placeholders=False) for line in blocks(text) if line.startswith("seed ")]
    said += [wrong(line, placeholders=True) for line in spans(text) if line.startswith("seed ")]
    assert [why for why in said if why] == []


def test_a_wrong_command_is_noticed() -> None:
    assert wrong("seed claim create web --image debian", placeholders=False)
    assert not wrong("seed claim create NAME --image debian", placeholders=True)
    assert not wrong("seed --project web claim list", placeholders=False)
    for line in (
        "seed claims",
        "seed --project web claims",
        "seed node provide a --force",
        "seed bmc show a b",
        "seed lab hop",
    ):
        assert wrong(line, placeholders=True)


def rendered(file: Path) -> Iterator[str]:
    """Every string of a module, with … for what is put in at run time."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)


def test_remedies_can_be_typed() -> None:
    named = {
        span: file
        for file in CODE
        for text in rendered(file)
        for span in INLINE.findall(text)
        if span.startswith("seed ") and not span.startswith("seed …")
    }
    missing = {" ".join(span.split()[:3]) for span in named if wrong(span, placeholders=True)}
    assert missing == NOT_YET


def test_examples_of_help() -> None:
    """Verbs that need words show how; docs/lab.md does it for those of the lab."""
    without, bad = [], []
    for path, command in leaves():
        needs = any(p.required or p.param_type_name == "argument" for p in command.params)
        examples = re.findall(r"Example: (.+)", command.help or "")
        if needs and not examples and not path.startswith("seed lab"):
            without.append(path)
        bad += [why for line in examples if (why := wrong(line, placeholders=False))]
        bad += [f"{path}: {line}" for line in examples if not line.startswith(path)]
    assert (without, bad) == ([], [])


@pytest.mark.parametrize("doc", DOCS, ids=ids(DOCS))
def test_make_targets_exist(doc: Path) -> None:
    text = doc.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [*blocks(text), *spans(text)]
    named = {match[1] for line in lines if (match := re.match(r"make ([a-z][a-z-]*)\b", line))}
    assert named - targets == set()


@pytest.mark.parametrize("doc", DOCS, ids=ids(DOCS))
def test_files_exist(doc: Path) -> None:
    text = doc.read_text()
    links = [part.split("#")[0] for part in re.findall(r"\]\(([^)]+)\)", text)]
    missing = [link for link in links if "://" not in link and not (doc.parent / link).exists()]
    folders = (*PACKAGES, "tests", "docs", "vagrant", "locks")
    path = re.compile(rf"(?:{'|'.join(folders)})/[A-Za-z0-9_./-]*")
    missing += [s for s in spans(text) if path.fullmatch(s) and not (ROOT / s).exists()]
    assert missing == []


@pytest.mark.parametrize("adr", ADRS, ids=ids(ADRS))
def test_decisions_have_one_shape(adr: Path) -> None:
    lines = adr.read_text().splitlines()
    assert lines[0].startswith(f"# {adr.name[:4]} ")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d, (accepted|replaced by \d{4})", lines[2])
    assert [line for line in lines if line.startswith("## ")] == HEADINGS
    assert len(lines) <= 60


def test_decisions_are_numbered_without_gaps() -> None:
    assert [adr.name[:4] for adr in ADRS] == [f"{n:04}" for n in range(1, len(ADRS) + 1)]


def test_the_index_lists_every_document() -> None:
    index = ROOT / "docs" / "index.md"
    linked = re.findall(r"\]\(([^)]+\.md)\)", index.read_text())
    named = {(index.parent / link).resolve() for link in linked}
    assert set(DOCS) - {index} - named == set()
    titles = [adr.read_text().splitlines()[0].split(" ", 2)[2] for adr in ADRS]
    assert [title for title in titles if title not in index.read_text()] == []


def test_the_guide_quotes_what_the_code_says() -> None:
    table = (ROOT / "docs" / "guide.md").read_text().split("| Seed says |")[1]
    quoted = [s for row in table.splitlines()[2:] for s in INLINE.findall(row.split("|")[1])]
    # One f-string may be written as several; templates of placeholders count as one.
    said = "\n".join(re.sub("…+", "…", text) for file in CODE for text in rendered(file))
    assert len(quoted) > 20
    assert [s for s in quoted if s not in said and s not in IRONICS] == []


IRONICS = {"inspect failed"}
"""Ironic's own words."""
