"""Which model the neurons were found in, where it is another than the edited one, and what can't be known of that."""

from ...editor.edits.manifest import Manifest


def found_in(manifest: Manifest) -> str:
    """Say it in a sentence or two; nothing where the neurons were found in the model itself."""
    other = manifest.found_in
    if other is None:
        return ""
    revision = f" at revision {other.revision}" if other.revision else ""
    where = f"The neurons were found in {other.model}{revision}"
    if manifest.quantised:
        return (
            f"{where}, which is as deep and as wide. That {manifest.base.model} was quantised from it can't be known "
            "from the files."
        )
    return f"{where}, whose weights are others than those of {manifest.base.model}."
