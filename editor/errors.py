"""Everything the library raises on purpose.

    MonoglotError
    ├── ModelError          no such model, not a safetensors checkpoint, a format that is not edited, an unknown family, a
    │   │                   config or a chat template that cannot be used
    │   └── CheckpointError malformed bytes: truncated, overlapping, an index that points elsewhere, NaN
    ├── MalformedError      data that is not what its format says; each reader makes its own error of it, with place and step
    ├── CorpusError         no text, too little text, an unreadable file
    ├── StatisticsError     a statistics file that is malformed or does not fit its partner
    ├── NeuronsError        neurons that do not fit the model, or a language that is not among them
    ├── RecipeError         a recipe that says something impossible
    ├── FindingsError       what `evaluate` kept of a model is missing or malformed
    ├── OutputError         the destination exists, is full, or may not be written
    ├── VerificationError   a checkpoint that is not what its manifest says
    ├── CardError           a model card whose metadata cannot be read, or that the Hub would refuse
    ├── RunError            a runtime that is not there, crashed or refused
    │   └── LateError       a runtime that took too long
    ├── EngineError         the engine that serves a model cannot be reached, refuses, or its replies are malformed
    ├── JudgeError          the judge model cannot be reached, refuses, or its server's replies are malformed
    └── PublishError        the Hub cannot be reached, refuses, or has something else than what was sent
        ├── ConflictError   the repository was changed between reading and writing it
        └── AbsentError     no such repository, or none that this token may see

Every message says the cause, the place and the next step. MonoglotWarning is the one warning category: something was
done, but not quite what was asked, or with less certainty.
"""


class MonoglotError(Exception):
    """Base of all errors that are raised on purpose."""


class ModelError(MonoglotError):
    """The model cannot be used."""


class CheckpointError(ModelError):
    """The bytes of a checkpoint are malformed."""


class MalformedError(MonoglotError):
    """Data is not what its format says."""


class CorpusError(MonoglotError):
    """The text cannot be used."""


class StatisticsError(MonoglotError):
    """Statistics are malformed or do not fit together."""


class NeuronsError(MonoglotError):
    """Neurons are malformed or do not fit the model."""


class RecipeError(MonoglotError):
    """A recipe is malformed or impossible."""


class OutputError(MonoglotError):
    """The destination cannot be written."""


class FindingsError(MonoglotError):
    """What was measured of a model cannot be read."""


class VerificationError(MonoglotError):
    """A checkpoint is not what its manifest says."""


class CardError(MonoglotError):
    """The metadata of a model card cannot be read, or the Hub would refuse it."""


class RunError(MonoglotError):
    """A runtime did not run a checkpoint."""


class LateError(RunError):
    """A runtime took too long."""


class EngineError(MonoglotError):
    """The engine that serves a model cannot be asked."""


class JudgeError(MonoglotError):
    """The judge model cannot be asked."""


class PublishError(MonoglotError):
    """A checkpoint cannot be put on the Hub."""


class ConflictError(PublishError):
    """The revision moved between reading and writing it (409, 412)."""


class AbsentError(PublishError):
    """There is no such repository, or none that this token may see (404)."""


class MonoglotWarning(UserWarning):
    """Something was done, but the user should know how."""


PLAIN: dict[type[BaseException], str] = {
    RecursionError: "it is nested too deeply",
    MemoryError: "there is not enough memory",
    TimeoutError: "it took too long",
    ConnectionError: "the connection failed",
    EOFError: "it ends too early",
    NotImplementedError: "that is not supported",
}


def reason_of(error: BaseException) -> str:
    """Return what an error of another library says, in one line; in plain words where it says nothing."""
    plain = next((words for kind, words in PLAIN.items() if isinstance(error, kind)), "no reason is given")
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, RecursionError):
        return plain
    if isinstance(error, KeyError) and len(error.args) == 1:
        return f"{said} is missing"
    return said or plain
