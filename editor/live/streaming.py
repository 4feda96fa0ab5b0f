"""Whether a model runs layer by layer, and in how much memory."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError

STREAMS = ("auto", "layers", "off")


@dataclass(frozen=True)
class Streaming:
    """`stream` is one of STREAMS: layer by layer if the model would not fit in memory whole, always, or never.

    `memory` is what the process may take in all, in bytes, by default what is available. Hidden states for which that leaves
    no room lie in the folder `scratch`, by default beside the result.
    """

    stream: str = "auto"
    memory: int | None = None
    scratch: Path | None = None

    def chosen(self, folder: Path, *, device: str = "auto", dtype: str = "auto", models: int = 1) -> bool:
        """Whether a folder's model, or so many like it, are to run layer by layer. Raises ModelError for an unknown word."""
        from .memory import fits

        if self.stream not in STREAMS:
            raise ModelError(f"{self.stream!r} is no way to run a model. Set `stream` to one of {', '.join(STREAMS)}.")
        if self.stream != "auto":
            return self.stream == "layers"
        return not fits(folder, device=device, dtype=dtype, memory=self.memory, models=models)

    def require_whole(
        self, folder: Path, what: str, instead: str, *, device: str = "auto", dtype: str = "auto", models: int = 1
    ) -> None:
        """Raise ModelError where a model would run layer by layer and `what`, which needs it whole, is asked for.

        `instead` is the next step.
        """
        if not self.chosen(folder, device=device, dtype=dtype, models=models):
            return
        count = "the model" if models == 1 else f"{models} models"
        reason = "layer by layer is asked for" if self.stream == "layers" else "there is not enough memory for that"
        raise ModelError(
            f"{what} needs {count} of {folder.name} whole in memory, and {reason}. {instead}, or set `stream` to off, which "
            "loads it all the same."
        )


AUTO = Streaming()
