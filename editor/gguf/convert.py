"""A checkpoint as a GGUF file, by llama.cpp's own converter, and whether the steering is still there once it is quantised.

The converter writes f32, f16, bf16 and q8_0; other quantisations are made of its file by `llama-quantize`, which comes with
llama.cpp. Then llama.cpp runs both, the unquantised file and the quantised one:

    language   the share of greedy answers in the wanted language: an activated one to prompts in the others, or, where
               languages are off, these to prompts in themselves, which is to stay as rare as it was
    KL         mean KL(unquantised ‖ quantised) of the next token along the unquantised file's answers, in nats. Of each
               distribution the TOP most probable tokens are known and the rest is one more: so it is a lower bound, as
               putting tokens together never adds to a KL

The steering *fades* when the share is off by more than FADED in the wrong direction.
"""

import json
import math
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..edits import manifest as manifest_file
from ..edits import manifest_files
from ..edits.manifest import FileEntry, Manifest
from ..edits.manifest_files import compare_files
from ..errors import OutputError, RunError, VerificationError
from ..files.output import replace_file, staged_file, taken
from ..files.streams import sha256
from ..models.hf import load_tokenizer
from ..progress import Progress, Stage, silent
from ..runtimes import apart, process
from ..text.identify import share
from ..text.letters import NEEDED, share_of
from ..version import VERSION
from . import converted
from .converted import Origin, Record, Survived

BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5}  # of a weight
OWN = tuple(BITS)  # the converter's
BY_QUANTIZER = (
    "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q5_1", "q4_k_m", "q4_k_s", "q4_0", "q4_1", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",
)  # fmt: skip
PLAIN = {"F32": "f32", "F16": "f16", "BF16": "bf16"}  # by what the safetensors are
QUANTIZER = "llama-quantize"
TOKENS = 24  # of an answer
PROMPTS = 4  # a language
TOP = 200  # tokens of a distribution
FADED = 0.15  # of the answers


@dataclass(frozen=True)
class Survival:
    """The comparison of a quantised file with the unquantised one.

    `wanted` says which answers count; the shares are by the prompt's language: (unquantised, quantised). `kl` is in nats,
    over `positions`.
    """

    wanted: str
    shares: Mapping[str, tuple[float, float]]
    kl: float
    positions: int
    samples: tuple[tuple[str, str, str], ...]

    @property
    def means(self) -> tuple[float, float]:
        count = max(1, len(self.shares))
        first, second = (sum(pair[at] for pair in self.shares.values()) / count for at in (0, 1))
        return first, second

    @property
    def faded(self) -> bool:
        before, after = self.means
        return after < before - FADED if self.wanted == "activated" else after > before + FADED

    def record(self) -> Survived:
        """Return what is kept of it: figures rounded to what they are worth."""
        shares = {language: (round(one, 4), round(two, 4)) for language, (one, two) in self.shares.items()}
        return Survived(self.wanted, shares, float(f"{self.kl:.3g}"), self.positions, self.faded)


@dataclass(frozen=True)
class Converted:
    """`type` is what the file's weights are, `survival` None where nothing was quantised."""

    file: Path
    type: str
    size: int
    sha256: str
    survival: Survival | None


def convert(
    folder: Path,
    destination: Path,
    *,
    python: str,
    quantise: str | None = None,
    quantizer: str | None = None,
    prompts: Mapping[str, Sequence[str]] | None = None,
    force: bool = False,
    timeout: float = process.TIMEOUT,
    stage: Stage = silent,
) -> Converted:
    """Write a checkpoint of monoglot's as a GGUF file, measured in `prompts` when it is quantised.

    Beside it lies `OUT.gguf.convert.json`, which says from what it was made and how it does. Raises VerificationError for
    a folder that is no checkpoint of monoglot's, RunError when the converter, the quantizer or llama.cpp is not there or
    fails, OutputError.
    """
    manifest = manifest_file.read(folder)
    _as_baked(folder, manifest, destination)
    plain = _plain(folder)
    kind = quantise or plain
    program = _quantizer(quantizer) if kind in BY_QUANTIZER else None
    beside = converted.beside(destination)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    with staged_file(destination, size=2 * size, beside=beside, check=_free(beside, force)) as staging:
        whole, made = staging / f"unquantised-{destination.name}", staging / destination.name
        _write(folder, whole if quantise else made, plain, size, python, timeout, stage)
        survival = None
        if quantise:
            if program:
                _quantise(program, whole, made, kind, timeout)
            elif kind == plain:
                shutil.copyfile(whole, made)
            else:
                _write(folder, made, kind, size * BITS[kind] / BITS[plain], python, timeout, stage)
            with stage("llama.cpp", "prompts") as update:
                survival = compare(
                    folder, manifest, whole, made, prompts or {}, python=python, timeout=timeout, progress=update
                )
            whole.unlink()
        digest = sha256(made)
        about = Record(
            manifest_file.FORMAT,
            VERSION,
            Origin(manifest.base, manifest.recipe),
            kind,
            FileEntry(digest, made.stat().st_size),
            survival.record() if survival else None,
        )
        said = (json.dumps(about.to_data(), indent=1, ensure_ascii=False) + "\n").encode()
        replace_file(staging / beside.name, said)
        manifest_files.check_listed(
            staging, {destination.name: about.file, beside.name: manifest_file.entry(said)}, "file"
        )
        found = Converted(destination, kind, made.stat().st_size, digest, survival)
    return found


def _as_baked(folder: Path, manifest: Manifest, destination: Path) -> None:
    """Raise VerificationError where the files are others than were baked, OutputError for a place among them."""
    if folder.resolve() in destination.absolute().resolve().parents:
        raise OutputError(
            f"{destination} lies in the checkpoint itself, which would then hold more than its manifest says."
        )
    found = compare_files(folder, manifest.files, hashes=True)
    if wrong := [*found["missing"], *found["changed"]]:
        raise VerificationError(
            f"{folder} is not what was baked: {', '.join(wrong[:5])} missing, or of another sha256. Bake it again."
        )


def _plain(folder: Path) -> str:
    """Return the type that keeps what the checkpoint holds."""
    from ..files.checkpoint import read_checkpoint
    from ..models.feed_forward import locate

    stored = locate(read_checkpoint(folder)).outputs[0][1].dtype
    return PLAIN[stored]


def _free(beside: Path, force: bool) -> Any:
    def check(destination: Path) -> None:
        if not destination.exists() and not destination.is_symlink():
            return
        if not force:
            raise taken(destination)
        if destination.is_symlink() or not destination.is_file() or not beside.is_file():
            raise OutputError(
                f"{destination} was not made by `monoglot convert` (it has no {beside.name} beside it), so `force` does not "
                "replace it. Choose another place, or remove it yourself."
            )

    return check


def _write(folder: Path, file: Path, kind: str, size: float, python: str, timeout: float, stage: Stage) -> None:
    """Have a file of about `size` bytes written."""
    request = {"folder": str(folder.absolute()), "file": str(file.absolute()), "type": kind}
    with stage("convert", "MB") as update:

        def told(done: int) -> None:
            update(kind, done // 10**6, max(done, round(size)) // 10**6)

        process.call("llama.cpp", "write", request, python=python, timeout=timeout, told=told, growing=file)
    if not file.is_file():
        raise RunError(f"llama.cpp's converter wrote no {file.name}.")


def _quantizer(named: str | None) -> str:
    found = shutil.which(named or QUANTIZER)
    if not found:
        raise RunError(
            f"there is no program {named or QUANTIZER}, which quantises to anything but q8_0. It comes with llama.cpp "
            "(for example `brew install llama.cpp`): put it on the PATH, or say where it is with `quantizer`."
        )
    return found


def _quantise(program: str, whole: Path, made: Path, kind: str, timeout: float) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="monoglot-") as scratch:
            done = subprocess.run(
                [program, str(whole), str(made), kind.upper()], capture_output=True, text=True, errors="replace",
                timeout=timeout, stdin=subprocess.DEVNULL, env=apart.environment(Path(scratch)),
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"{program} did not run: {str(error).splitlines()[0]}.") from None
    if done.returncode or not made.is_file():
        said = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(f"{program} failed: {said[:300]}")


def compare(
    folder: Path,
    manifest: Manifest,
    whole: Path,
    made: Path,
    prompts: Mapping[str, Sequence[str]],
    *,
    python: str,
    timeout: float = process.TIMEOUT,
    progress: Progress | None = None,
) -> Survival:
    """Run the unquantised and the quantised file in llama.cpp.

    Raises RunError, and VerificationError when no prompt is in a language that says something.
    """
    kind, wanted = _wanted(manifest, prompts)
    if not wanted:
        raise VerificationError(
            f"there are no prompts that would tell whether the steering survives ({', '.join(prompts) or 'none at all'}). "
            "Give some with `prompts`."
        )
    tokenizer = load_tokenizer(folder)
    asked = [(language, text) for language in prompts for text in prompts[language][:PROMPTS]]
    ids = [tokenizer(text)["input_ids"] for _, text in asked]

    def measured(what: str, file: Path, before: int, follow: Any) -> Any:
        def told(done: int) -> None:
            if progress:
                progress(what, before + done, 2 * len(asked))

        request = {"prompts": ids, "tokens": TOKENS, "top": TOP, "file": str(file), "follow": follow}
        return process.call("llama.cpp", "measure", request, python=python, timeout=timeout, told=told)

    first = measured("unquantised", whole, 0, None)
    second = measured("quantised", made, len(asked), first["answers"])
    texts = [
        tokenizer.batch_decode(one["answers"], skip_special_tokens=True) for one in (first, second)
    ]  # of each file, in order
    shares = {}
    for language, codes in wanted.items():
        own = [[text for (code, _), text in zip(asked, said, strict=True) if code == language] for said in texts]
        shares[language] = (share(own[0], *codes), share(own[1], *codes))
    pairs = [(p, q) for p, q in zip(first["steps"], second["steps"], strict=True) if p and q]
    kls = [divergence(p, q) for p, q in pairs]
    samples = {
        language: (text, ours, theirs)
        for (language, text), ours, theirs in zip(reversed(asked), reversed(texts[0]), reversed(texts[1]), strict=True)
        if language in wanted
    }
    return Survival(kind, shares, sum(kls) / max(1, len(kls)), len(kls), tuple(samples[k] for k in wanted))


def _wanted(manifest: Manifest, prompts: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, list[str]]]:
    """Which answers count, by the prompt's language.

    Those in the language that it is redirected to; else those in an activated language to prompts in others; else those
    in a language that is off, or scaled, or uses a script that can't be written, to prompts in it.
    """
    if moved := {edit.language: [str(edit.to)] for edit in manifest.recipe.redirects}:
        return "activated", {language: moved[language] for language in prompts if language in moved}
    if active := list(manifest.activated):
        return "activated", {language: active for language in prompts if language not in active}
    edited = [edit.language for edit in manifest.recipe.edits]
    for edit in manifest.recipe.scripts:
        counts = {language: Counter("".join(own)) for language, own in prompts.items()}
        edited += [language for language, own in counts.items() if share_of(edit.script, own) >= NEEDED]
    return "deactivated", {language: [language] for language in prompts if language in edited}


def divergence(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """Return KL(p ‖ q) in nats of two distributions of which only some log-probabilities are known.

    It is over the tokens that both know, and all others as one.
    """
    both = p.keys() & q.keys()
    total = sum(math.exp(p[token]) * (p[token] - q[token]) for token in both)
    rest_p, rest_q = (max(1e-12, 1 - sum(math.exp(one[token]) for token in both)) for one in (p, q))
    return total + rest_p * math.log(rest_p / rest_q)
