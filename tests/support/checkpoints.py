"""A checkpoint that was baked and verified, for tests that publish one."""

from pathlib import Path
from typing import Any

from support import folders


def baked(folder: Path, model: Path, neurons_file: Path) -> Path:
    """`model` without Chinese, verified in its bytes alone, with its card, in `folder`."""
    from monoglot.cards.render import card_writer
    from monoglot.editor.edits.bake import bake
    from monoglot.editor.edits.recipe import Edit, Recipe
    from monoglot.editor.models.source import resolve
    from monoglot.editor.models.target import open_target
    from monoglot.editor.neurons import neurons
    from monoglot.editor.proof import bytes as verify
    from monoglot.editor.proof.certificate import make_certificate

    target, found = open_target(resolve(str(model), "someone/tiny")), neurons.load(neurons_file)
    bake(target, found, Recipe(target.base, (Edit("zh", "deactivate"),)), folder, describe=card_writer(found.method))
    certify(folder, make_certificate(verify.verify_bytes(folder, target, found), None).to_data())
    assert folders.manifest_data(folder)["certificate"]["bytes"]["passed"]
    return folder


def certify(folder: Path, certificate: Any) -> None:
    """Write a certificate into the manifest of a checkpoint."""

    folders.write_manifest(folder, {**folders.manifest_data(folder), "certificate": certificate})


MANIFEST: dict[str, Any] = {  # of a checkpoint that has no files
    "format": 1,
    "monoglot": "0.1.0",
    "base": {
        "model": "org/base-1b", "revision": "abc", "fingerprint": "f" * 64, "hub": True, "model_type": "llama",
        "layers": 4, "width": 32,
    },
    "recipe": {"shared": "keep", "edits": [{"language": "zh", "op": "deactivate"}]},
    "edited": {"zh": 5},
    "kept": {"zh": 2},
    "neurons_edited": 5,
    "carrier": None,
    "rounding": {},
    "left_out": [],
    "files": {},
    "certificate": None,
}  # fmt: skip
COUNTS = {"edited_tensors": 1, "changed_columns": 1, "identical_tensors": 1}
PROVED: dict[str, Any] = {
    "bytes": {"passed": True, **COUNTS, "problems": []},
    "logits": {"passed": True, "bound": 1e-4, "problems": [], "by_language": {}},
}
