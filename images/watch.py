"""How a build tells what it is doing: a line that lives on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from images.workbench import Progress


@contextmanager
def watched(console: Console) -> Iterator[Progress]:
    """What is told lines; on a terminal the seconds go on between two of them."""
    if not console.is_terminal:
        yield lambda line: console.print(Text(line), soft_wrap=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def say(line: str) -> None:
            console.print(Text(line), soft_wrap=True)
            bar.update(task, description=line)

        yield say
