"""A checkpoint that was baked and verified, for tests that publish one."""

from pathlib import Path
from typing import Any


def baked(folder: Path, model: Path, neurons_file: Path) -> Path:
    """`model` without Chinese, verified in its bytes alone, with its card, in `folder`."""
    from monoglot.cards.render import card_writer
    from monoglot.editor.edits import manifest
    from monoglot.editor.edits.bake import bake
    from monoglot.editor.edits.recipe import Edit, Recipe
    from monoglot.editor.models.source import resolve
    from monoglot.editor.models.target import open_target
    from monoglot.editor.neurons import neurons
    from monoglot.editor.proof import bytes as verify
    from monoglot.editor.proof.certificate import make_certificate

    target, found = open_target(resolve(str(model), "someone/tiny")), neurons.load(neurons_file)
    bake(target, found, Recipe(target.base, (Edit("zh", "deactivate"),)), folder, describe=card_writer(found.method))
    certify(folder, make_certificate(verify.verify_bytes(folder, target, found), None))
    assert manifest.read(folder)["certificate"]["bytes"]["passed"]
    return folder


def certify(folder: Path, certificate: Any) -> None:
    """Write a certificate into the manifest of a checkpoint."""
    from monoglot.editor.edits import manifest

    manifest.write(folder, {**manifest.read(folder), "certificate": certificate})


PROVED = {"bytes": {"passed": True, "problems": []}, "logits": {"passed": True, "problems": []}}
