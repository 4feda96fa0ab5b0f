"""The proof of an adapter: its matrices are what the recipe makes of the base, and the base with it does what hooks do.

bytes    both files of the adapter are made again from the base, neuron by neuron, and compared; nothing of the base is
         in question, as an adapter changes no file of it
logits   the base with the adapter, added at run time as a server does, against the base under hooks (see `logits`)
cut      where a highest rank left neurons out: how far the base with the adapter is from the base with hooks on all
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..edits import manifest as manifest_file
from ..edits.adapter import Matrices, matrices
from ..edits.carriers import Carried
from ..edits.manifest import Manifest
from ..edits.manifest_base import carried_in
from ..errors import RecipeError, VerificationError
from ..files.beside import beside
from ..files.companions import ADAPTER as CONFIG
from ..files.companions import ADAPTER_WEIGHTS as WEIGHTS
from ..files.streams import equal_files, sha256
from ..live.adapted import load_baked
from ..live.load import load_model
from ..live.streaming import AUTO, Streaming
from ..models.target import Target
from ..neurons.neurons import Neurons
from ..progress import Progress
from ..text.corpus import Text
from .bytes import Bytes, file_problems
from .logits import Logits, read_held_out, verify_logits


def expected(folder: Path, target: Target, neurons: Neurons, manifest: Manifest) -> tuple[Carried, Matrices]:
    """Return what the manifest says was asked for, and the adapter that it makes of the base. Raises VerificationError."""
    what = carried_in(folder, target, neurons)
    try:
        limit = manifest.adapter.max_rank if manifest.adapter else None
        return what, matrices(target, what, neurons, limit, manifest.base.identity)
    except RecipeError as error:
        raise VerificationError(f"what {folder} says of itself cannot be carried out: {error}") from None


def verify_adapter(
    folder: Path, target: Target, neurons: Neurons, progress: Callable[[int, int], None] | None = None
) -> Bytes:
    """Compare an adapter with what the recipe makes of the base, a matrix at a time.

    `progress` gets the bytes compared so far, and those in all.
    """
    manifest = manifest_file.read(folder)
    _, made = expected(folder, target, neurons, manifest)
    problems = []
    config = folder / CONFIG
    if not config.is_file() or config.read_bytes() != made.config:
        problems.append(f"{CONFIG} is not what the recipe makes of it.")
    problems += _other_matrices(folder / WEIGHTS, made, progress or (lambda done, whole: None))
    for name in beside(target.checkpoint).licences:
        if not (folder / name).is_file() or not equal_files(folder / name, target.source.folder / name):
            problems.append(f"{name} is not the base's.")
    notes: list[str] = []
    with ThreadPoolExecutor(1) as hasher:
        hashes = {name: hasher.submit(sha256, folder / name) for name in manifest.files if (folder / name).is_file()}
        problems += file_problems(folder, manifest, hashes, notes)
    rows = sum(len(edit.where) for module in made.modules for edit in module.edits)
    edited = sum(bool(module.edits) for module in made.modules)
    return Bytes(edited, rows, 0, len(manifest.files), tuple(problems), tuple(notes))


def _other_matrices(path: Path, made: Matrices, progress: Callable[[int, int], None]) -> list[str]:
    if not path.is_file():
        return [f"{WEIGHTS} is missing."]
    names = ["its header", *(f"{module.name}.lora_{side}" for module in made.modules for side in "AB")]
    wrong = []
    with path.open("rb") as file:
        for name, piece in zip(names, made.pieces(), strict=True):
            progress(file.tell(), made.size)
            if file.read(len(piece)) != piece:
                wrong.append(f"{WEIGHTS}: {name} is not what the recipe makes of the base.")
                if name == names[0]:
                    return wrong
        if file.read(1):
            wrong.append(f"{WEIGHTS} goes on after its last matrix.")
    return wrong


def verify_adapter_live(
    folder: Path,
    target: Target,
    neurons: Neurons,
    texts: Mapping[str, Text],
    *,
    tokens: int,
    context: int,
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
    progress: Progress | None = None,
) -> Logits:
    """Compare the base with the adapter and the base under hooks, as `logits.verify_live` does for a checkpoint.

    By default in float32: in half precision what is added at run time leaves noise that no checkpoint has. Raises
    VerificationError for a base that would have to run layer by layer.
    """
    dtype = "float32" if dtype == "auto" else dtype
    if streaming.chosen(target.source.folder, device=device, dtype=dtype):
        raise VerificationError(
            f"an adapter is proved on its whole base, and {target.source.name} would run layer by layer, as asked or as it "
            "does not fit in memory. Prove the bytes alone with `fast`, or prove it on a larger machine."
        )
    manifest = manifest_file.read(folder)
    asked, made = expected(folder, target, neurons, manifest)
    packed = read_held_out(target, texts, tokens=tokens, context=context)
    base = load_model(target.source.folder, device=device, dtype=dtype)
    adapted = load_baked(folder, target.source.folder, device=device, dtype=dtype)
    uncut = asked if manifest.adapter and manifest.adapter.cut else None
    return verify_logits(
        adapted, base, target, made.fitted.carried, packed, progress, stored="F32" if dtype == "float32" else None,
        uncut=uncut,
    )  # fmt: skip
