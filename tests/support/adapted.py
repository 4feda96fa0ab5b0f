"""What a base with an adapter gives, held against the baked checkpoint: bounds, and PEFT's two forms."""

from pathlib import Path
from typing import Any

import torch

from monoglot.editor.live.load import load_model

from . import tiny

# Largest difference of a logit from the baked checkpoint's, as a share of the largest logit, in float32: what is added at run
# time is rounded on the way, so a neuron that is off is 0 up to the noise of float32's arithmetic.
MERGED, ADDED = 1e-5, 1e-4


def apart(ours: torch.nn.Module, theirs: torch.nn.Module) -> float:
    """The largest difference of a logit, as a share of the largest."""
    wanted = tiny.logits(theirs)
    return ((tiny.logits(ours) - wanted).abs().max() / wanted.abs().max()).item()


def peft_agrees(peft: Any, folder: Path) -> None:
    """PEFT's unmerged and merged forms of `folder`/adapter on `folder`/base do what `folder`/baked does."""
    baked = load_model(folder / "baked", device="cpu")
    model = peft.PeftModel.from_pretrained(load_model(folder / "base", device="cpu"), folder / "adapter")
    assert apart(model, baked) < ADDED
    assert apart(model.merge_and_unload(), baked) < MERGED
