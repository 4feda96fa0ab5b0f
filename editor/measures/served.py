"""Who answers for a checkpoint and its base, where an engine does: a server that is there, or vLLM, which is started.

Neurons can't be hooked in an engine, so there are no random neurons beside them. Each answer is kept as soon as it is there,
so an interrupted run goes on where it was cut off.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import EngineError, RunError
from ..live.generate import REPETITION_PENALTY
from ..live.load import stored_dtype
from ..progress import Progress, Told
from ..runtimes.process import interpreters, probe
from ..runtimes.serving import NAME, serving
from ..text.tokens import fitting_context
from .answers import Writer
from .engine import About, Engine, Sampling, ask_engine, key_from_environment, open_engine
from .kept_answers import KeptAnswers
from .options import Options
from .subject import Subject

KEPT = ".answers.progress"  # in the checkpoint's folder
ROOM = 1024  # tokens of a prompt
Opened = Callable[[], contextlib.AbstractContextManager[Engine]]


class Served:
    """The writers of a run, by name, and what is to be recorded of their engines when they have written."""

    def __init__(self, subject: Subject, options: Options, base: str, this: str, told: Told) -> None:
        """See that both can answer. Raises EngineError and RunError."""
        self.sampling = Sampling(options.tokens, options.chat, options.system, options.temperature, options.seed)
        self.told = told
        self.about: dict[str, About] = {}
        self.penalty = True
        folders = {base: subject.target.source.folder, this: subject.folder or Path()}
        opened = _vllm(subject, options, folders, self.sampling) if options.engine == NAME else _at_addresses(
            options, base, this, self.sampling
        )  # fmt: skip
        made_of = {
            "engine": [options.engine, options.base_engine, options.served, options.base_served, options.dtype],
            "sampling": asdict(self.sampling),
            "models": [subject.target.fingerprint, _digest(subject)],
        }
        self.kept = KeptAnswers(subject.folder / KEPT if subject.folder else None, made_of)
        if self.kept.found:
            told(f"{len(self.kept.found)} answers of an interrupted run are taken.")
        self.writers: Mapping[str, Writer] = {name: self._writer(name, one) for name, one in opened.items()}

    def _writer(self, name: str, opened: Opened) -> Writer:
        def write(prompts: Sequence[str], progress: Progress) -> list[str]:
            texts = [self.kept.get(name, prompt) for prompt in prompts]
            missing = [number for number, text in enumerate(texts) if text is None]
            done, cut = len(prompts) - len(missing), set[int]()

            def told(number: int, text: str) -> None:
                nonlocal done
                done += 1
                texts[missing[number]] = text
                self.kept.put(name, prompts[missing[number]], text)
                progress(name, done, len(prompts))

            with opened() as engine:
                self.about[name], self.penalty = engine.about, self.penalty and engine.penalty
                ask_engine(engine, [prompts[at] for at in missing], self.sampling, told=told, cut=cut.add)
            if cut:
                self.told(
                    f"Warning: the engine cut {len(cut)} answers of {name} before {self.sampling.tokens} tokens. Allow it "
                    "more, or ask for fewer `tokens`."
                )
            return [text or "" for text in texts]

        return write

    def record(self) -> dict[str, Any]:
        """Return what a manifest says of who answered, and how they were asked."""
        asked = self.sampling
        return {
            "engine": {name: about.to_data() for name, about in self.about.items()},
            "temperature": asked.temperature,
            "seed": asked.seed,
            "repetition_penalty": REPETITION_PENALTY if self.penalty else None,
            **({"system": asked.system} if asked.system else {}),
        }


def _digest(subject: Subject) -> str:
    """Identify the files of a checkpoint, by its manifest."""
    files = subject.manifest.files if subject.manifest else {}
    weights = {name: entry.sha256 for name, entry in files.items() if name != "README.md"}
    return hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()


def _at_addresses(options: Options, base: str, this: str, sampling: Sampling) -> dict[str, Opened]:
    """Open both models where they are served already."""
    key = key_from_environment(options.engine_key_env)
    url = str(options.engine)
    engines = {
        base: open_engine(
            options.base_engine or url,
            options.base_served,
            sampling,
            key=key,
            dtype=options.engine_dtype,
            argument="base_served",
        ),
        this: open_engine(url, options.served, sampling, key=key, dtype=options.engine_dtype),
    }
    if (engines[base].url, engines[base].model) == (engines[this].url, engines[this].model):
        raise EngineError(
            f"the base and the checkpoint are both {engines[this].model!r} at {engines[this].url}. Name the base's model "
            "there with `base_served`, or another server with `base_engine`."
        )
    return {name: _there(engine) for name, engine in engines.items()}


def _there(engine: Engine) -> Opened:
    return lambda: contextlib.nullcontext(engine)


def _vllm(subject: Subject, options: Options, folders: Mapping[str, Path], sampling: Sampling) -> dict[str, Opened]:
    """Serve each model by vLLM when it is asked. Raises RunError where vLLM is not installed."""
    python = interpreters([options.python] if options.python else [])[None]
    installed = probe(NAME, python)
    if not installed.ready:
        raise RunError(installed.advice)
    context = fitting_context(subject.target, ROOM + sampling.tokens)
    dtype = options.dtype if options.dtype != "auto" else stored_dtype(subject.target.source.folder)

    def at(folder: Path) -> Opened:
        @contextlib.contextmanager
        def opened() -> Iterator[Engine]:
            with serving(
                folder, python=python, dtype=dtype, tensor_parallel_size=options.tensor_parallel_size,
                context=context,
            ) as server:  # fmt: skip
                yield open_engine(server.url, server.model, sampling, key=server.key, dtype=dtype)

        return opened

    return {name: at(folder) for name, folder in folders.items()}
