"""What vLLM is asked for."""

from collections.abc import Callable
from pathlib import Path

from monoglot.editor.runtimes.adapters import vllm


def test_vllm_asks_for_no_more_context_than_there_is(saved: Callable[..., Path], tmp_path: Path) -> None:
    assert vllm.context(saved("llama")) == 128 and vllm.context(saved("gpt2")) == 128
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 64}}')
    assert vllm.context(tmp_path) == 64
    (tmp_path / "config.json").write_text('{"n_positions": 1024}')
    assert vllm.context(tmp_path) == 512
