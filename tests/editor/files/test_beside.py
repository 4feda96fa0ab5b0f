"""What lies beside the weights: one choice for everybody."""

import json
import shutil
from pathlib import Path

from monoglot.editor.files.beside import beside
from monoglot.editor.files.checkpoint import read_checkpoint


def test_what_lies_beside_a_checkpoints_weights(model: Path, tmp_path: Path) -> None:
    """One choice for what is opened, baked, proved, made an adapter of, and shown to a runtime: shards and index are none."""
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    shard = folder / "model.safetensors"
    weights = {tensor.name: shard.name for _, tensor in read_checkpoint(folder).tensors()}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    (folder / "tokenizer").mkdir()
    for name in ("LICENSE", "tokenizer/LICENSE", "NOTICE.md", "train.log"):
        (folder / name).write_text("x")
    found = beside(read_checkpoint(folder))
    assert not {shard.name, f"{shard.name}.index.json"} & {*found.along, *found.left_behind}
    assert found.licences == ("LICENSE", "NOTICE.md")
    assert "train.log" in found.left_behind and "tokenizer/LICENSE" in found.along
