"""Runs the `monoglot` command for `python -m`."""

from .main import main

main()
