"""What the files of formats are written with."""

from collections.abc import Iterable
from typing import Any

import yaml


class _Whole(yaml.SafeDumper):
    """Says everything where it is read: people cannot follow `*id001` through a long file."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401
        return True


def dumped(told: Any, about: str = "") -> str:  # noqa: ANN401
    """A YAML document. about: a comment above it."""
    text: str = yaml.dump(told, Dumper=_Whole, sort_keys=False, width=1_000_000)
    return f"---\n{commented(about)}{text}"


def commented(about: str) -> str:
    return "".join(f"# {line}\n" for line in about.splitlines())


def steps(*lines: Iterable[str]) -> str:
    """Numbered: of each, the first line says what, those below are commands or words to it."""
    text = ""
    for number, (first, *rest) in enumerate(lines, 1):
        text += f"{number}. {first}\n" + "".join(f"   {line}\n" for line in rest)
    return text
