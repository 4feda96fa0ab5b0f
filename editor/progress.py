"""How a long call speaks to whoever waits for it: the types of its callbacks, and what they are by default."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]  # what, done, in all
Stage = Callable[[str, str], AbstractContextManager[Progress]]  # title and unit of a stage -> its progress
Told = Callable[[str], None]  # a line that a person should read


@contextmanager
def silent(title: str, unit: str) -> Iterator[Progress]:
    """Show nothing of a stage."""
    yield lambda what, done, whole: None


def unheard(line: str) -> None:
    """Drop a line."""


_shown: list[Stage] = [silent]


def show(stage: Stage) -> None:
    """Show with `stage` what takes long where no caller has a callback: the hashes of a model's files, text that is read."""
    _shown[0] = stage


def shown(title: str, unit: str) -> AbstractContextManager[Progress]:
    """Open a stage that whoever called `show` sees, and nobody else."""
    return _shown[0](title, unit)


def stages(progress: Progress | None) -> Stage:
    """Make stages that all report to one callback, each under its title."""
    if progress is None:
        return silent

    @contextmanager
    def stage(title: str, unit: str) -> Iterator[Progress]:
        yield lambda what, done, whole: progress(f"{title} {what}".strip(), done, whole)

    return stage


def in_megabytes(progress: Progress) -> Callable[[int, int], None]:
    """Make a callback for bytes that reports megabytes."""
    return lambda done, whole: progress("", done // 10**6, whole // 10**6)


@dataclass(frozen=True)
class Listener:
    """Who waits for a long call: is shown the progress of its stages, and told what a person should read."""

    stage: Stage = silent
    told: Told = unheard


NOBODY = Listener()
