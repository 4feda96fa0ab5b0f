"""The certificate holds the figures of the proof."""

import json
from pathlib import Path

from support.proved import baked, live

from monoglot.editor.models.target import Target
from monoglot.editor.neurons import neurons
from monoglot.editor.proof import bytes as verify
from monoglot.editor.proof.certificate import make_certificate


def test_the_certificate_holds_the_figures(target: Target, neurons_file: Path, corpus: Path, tmp_path: Path) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    found = verify.verify_bytes(out, target, neurons.load(neurons_file))
    certificate = json.loads(json.dumps(make_certificate(found, live(out, target, corpus)).to_data()))
    assert certificate["bytes"]["passed"] and certificate["logits"]["passed"]
    assert certificate["effect"]["tokens"] == {"en": 120, "fr": 120, "zh": 120}
    assert set(certificate["effect"]["log_loss"]) == {"base", "this model", "random neurons"}
