"""Where each family keeps its token embeddings in the file, held against the live model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny import WRAPPERS, edit_config, live, need, save_model

from monoglot.editor.errors import CheckpointError, ModelError
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.families import KNOWN
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target


def opened(folder: Path) -> Any:
    return open_embedding(open_target(resolve(str(folder))))


def rewrite(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Put tensors into the file, or take them out; `__` stands for a dot."""
    path = folder / "model.safetensors"
    held: dict[str, Any] = {**load_file(path), **{name.replace("__", "."): own for name, own in tensors.items()}}
    save_file({name: own for name, own in held.items() if own is not None}, path, {"format": "pt"})


@pytest.mark.parametrize("model_type", [*KNOWN, *WRAPPERS])
def test_every_family(model_type: str, tmp_path: Path) -> None:
    need(model_type)
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    table, model = opened(folder), live(folder)
    into, out = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (table.rows, table.hidden) == tuple(into.shape)
    ids = np.array([0, 7, table.rows - 1])
    assert np.array_equal(table.read(ids), into.detach()[ids].double().numpy())
    assert table.tied == (into is out)
    names = load_file(folder / "model.safetensors").keys()
    assert table.has_output == (table.output in names) == (not table.tied)


def test_both_tables_in_the_file(tmp_path: Path) -> None:
    """The config decides where the two are the same; where they are not, it may not say that they are."""
    folder = save_model(tmp_path / "model", "gemma3_text", tokenizer=False)
    rows = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(folder, lm_head__weight=rows.clone())
    assert opened(folder).tied
    edit_config(folder, tie_word_embeddings=False)
    assert not opened(folder).tied
    config = json.loads((folder / "config.json").read_text())
    del config["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    assert opened(folder).tied
    rewrite(folder, lm_head__weight=rows + 1)
    assert not opened(folder).tied
    edit_config(folder, tie_word_embeddings=True)
    with pytest.raises(CheckpointError, match="holds two different tables"):
        opened(folder)


def test_no_table_that_is_known(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    rows = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(folder, model__embed_tokens__weight=None)
    with pytest.raises(ModelError, match=r"none of model\.embed_tokens\.weight, .*cannot be redirected"):
        opened(folder)
    rewrite(folder, model__embed_tokens__weight=rows.to(torch.float8_e4m3fn))
    with pytest.raises(ModelError, match=r"is stored as F8_E4M3 .* Use the unquantised checkpoint"):
        opened(folder)
