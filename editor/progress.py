"""The type of a progress callback."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what, done, in all
