"""What is measured: a model and neurons of it, and the checkpoint that was made of both, where there is one."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..edits import manifest as manifest_file
from ..edits.manifest import Manifest
from ..edits.manifest_base import neurons_of, open_source
from ..errors import MonoglotWarning, NeuronsError
from ..files.kinds import FILE
from ..live.adapted import load_baked
from ..live.layered import Layered, open_layered
from ..live.load import load_model
from ..live.memory import warn_of_size
from ..live.modules import activation_modules
from ..live.streaming import AUTO, Streaming
from ..models.hf import load_tokenizer
from ..models.source import resolve
from ..models.target import Target, about_sampled, open_target
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons, check_fit


@dataclass
class Subject:
    """`folder` and `manifest` are those of the checkpoint. The base is loaded when it is first asked for."""

    target: Target
    neurons: Neurons
    folder: Path | None = None
    manifest: Manifest | None = None
    device: str = "auto"
    dtype: str = "auto"
    streaming: Streaming = AUTO

    @property
    def languages(self) -> tuple[str, ...]:
        """Those of the neurons, or of the vocabulary where there are none."""
        return self.neurons.languages or tuple((self.manifest.vocabulary if self.manifest else None) or ())

    @cached_property
    def model(self) -> Any:
        warn_of_size(self.target.source.folder, device=self.device, dtype=self.dtype)
        return load_model(self.target.source.folder, device=self.device, dtype=self.dtype)

    @cached_property
    def layered(self) -> Layered | None:
        """The base as it runs layer by layer, where that is asked for or it would not fit in memory."""
        folder = self.target.source.folder
        if not self.streaming.chosen(folder, device=self.device, dtype=self.dtype):
            return None
        return open_layered(folder, device=self.device, dtype=self.dtype)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.target.source.folder)

    @cached_property
    def modules(self) -> list[Any]:
        return activation_modules(self.model, self.target.feed_forward.family)

    def baked(self) -> Any:
        """Load the checkpoint's own model anew."""
        if self.folder is None:
            return None
        return load_baked(self.folder, self.target.source.folder, device=self.device, dtype=self.dtype)


def open_subject(
    model: str,
    neurons_path: Path | None,
    *,
    base: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
) -> Subject:
    """Open a checkpoint that monoglot made, by its folder; or a model with its neurons.

    Raises VerificationError when there are no neurons and the folder is no such checkpoint, NeuronsError when the neurons
    don't fit the model, or are not those that the checkpoint was made with. Warns (MonoglotWarning) of neurons that were
    found in other weights.
    """
    folder = Path(model)
    if neurons_path is None or (folder / FILE).is_file():
        manifest = manifest_file.read(folder)
        target = open_target(open_source(manifest.base, base, beside=folder))
        own = neurons_of(folder, manifest)
        if neurons_path and neurons_file.serialise(neurons_file.load(neurons_path)) != neurons_file.serialise(own):
            raise NeuronsError(
                f"{folder} was made with other neurons than those in {neurons_path}. Leave the file out, or measure the "
                "neurons on the base."
            )
        return Subject(target, own, folder, manifest, device, dtype, streaming)
    found = neurons_file.load(neurons_path)
    target = open_target(resolve(model))
    check_fit(
        found,
        target.feed_forward.layers,
        target.feed_forward.width,
        target.source.name,
        target.feed_forward.blocks,
    )
    if found.model and found.model.fingerprint != target.fingerprint:
        warnings.warn(
            f"the neurons were found in {found.model.name}, {target.source.name} has other weights. What is measured is "
            f"how far they hold there too.{about_sampled(target, found.model.fingerprint)}",
            MonoglotWarning,
            stacklevel=2,
        )
    return Subject(target, found, None, None, device, dtype, streaming)
