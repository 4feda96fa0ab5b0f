"""What lies in a folder, for tests that say what was written there, or that nothing was."""

from pathlib import Path


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every path below a folder with what it holds."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes() if path.is_file() else "/"
    return found
