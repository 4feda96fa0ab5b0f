"""Text in K languages: where it lies, how it becomes tokens, and whether it is in the language it says.

A corpus is a folder of `{lang}.txt`, `{lang}.jsonl`, `{lang}.jsonl.gz` or `{lang}.parquet` (or of folders `{lang}/` of
such files), single files as `lang=FILE`, a Hub dataset with a configuration per language, or `embedded`. A language is
two or three small letters, perhaps with subtags (`zh`, `yue`, `pt-BR`, `zh-Hans`): a folder's other entries (`README.md`,
`notes.txt`, `.cache/`) are no text and are passed over.

It is read as a stream of documents: the records of a .jsonl or .parquet (field `text`, however long), the blocks between
empty lines of a .txt, cut at a line's end after about 4,000 characters (within a line only if that line is longer).

Every fifth document is held out: neurons are found on the others, effects are measured on these, so no figure rests on
text that the neurons were chosen on.

Documents are joined by an empty line and packed into full contexts, as in the paper; a context starts with the
beginning-of-text token where the tokenizer has one. There is no padding: the last context is shorter instead.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .. import embedded
from ..errors import CorpusError
from .identify import CERTAINTY, guess, knows

LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".parquet")
DOCUMENT_CHARACTERS = 4_000
HELD_OUT_EVERY = 5

Documents = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Text:
    """Text labelled as one language. `documents()` starts a new pass over all of it."""

    language: str
    origin: str
    documents: Documents

    def part(self, *, held_out: bool) -> Iterator[str]:
        """Every fifth document, or the others."""
        for number, document in enumerate(self.documents(), start=1):
            if (number % HELD_OUT_EVERY == 0) == held_out:
                yield document


def open_corpus(specs: Sequence[str], languages: Sequence[str] = ()) -> dict[str, Text]:
    """The texts that `specs` name, in the order of `languages`, or alphabetically when none are given.

    Raises CorpusError when a file, a folder or a wanted language is not there.
    """
    texts: dict[str, list[Text]] = {}
    for spec in specs:
        for text in _open(spec, languages):
            texts.setdefault(text.language, []).append(text)
    if missing := [language for language in languages if language not in texts]:
        raise CorpusError(
            f"the corpus has no text in {', '.join(missing)}; it has {', '.join(sorted(texts)) or 'nothing'}. "
            f"Add a file, for example --corpus {missing[0]}=FILE."
        )
    return {language: _joined(language, texts[language]) for language in languages or sorted(texts)}


def _joined(language: str, texts: list[Text]) -> Text:
    if len(texts) == 1:
        return texts[0]
    origin = ", ".join(text.origin for text in texts)
    return Text(language, origin, lambda: (document for text in texts for document in text.documents()))


def _open(spec: str, languages: Sequence[str]) -> list[Text]:
    label, equals, name = spec.partition("=")
    if equals and LANGUAGE.fullmatch(label):
        path = Path(name).expanduser()
        return [_from_files(label, _files_under(path) if path.is_dir() else [path])]
    folder = Path(spec).expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    if spec == embedded.NAME:
        return _from_folder(embedded.TEXTS)
    if folder.exists():
        raise CorpusError(f"{spec} is a file: say its language, for example --corpus en={spec}.")
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", spec):
        return _from_hub(spec, languages)
    raise CorpusError(f"there is no folder {spec}, and it is not the id of a Hub dataset (organisation/name).")


def _from_folder(folder: Path) -> list[Text]:
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        language = path.name if path.is_dir() else _stem(path)
        inner = _files_under(path) if path.is_dir() else [path]
        if LANGUAGE.fullmatch(language) and (readable := [file for file in inner if _suffix(file)]):
            files.setdefault(language, []).extend(readable)
    if not files:
        raise CorpusError(f"{folder} has no text: name the files by language, as in en.txt or zh.jsonl.gz.")
    return [_from_files(language, paths) for language, paths in files.items()]


def _files_under(folder: Path) -> list[Path]:
    """The text files in a language's folder, at any depth; hidden ones (`._de.txt` of macOS, `.cache/`) are no text."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if _suffix(path) and path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)


def _stem(path: Path) -> str:
    return path.name.removesuffix(_suffix(path) or "")


def _from_files(language: str, paths: list[Path]) -> Text:
    if not paths:
        raise CorpusError(f"the folder for {language} holds none of {', '.join(SUFFIXES)}.")
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"there is no file {path} for {language}.")
        if not _suffix(path):
            raise CorpusError(f"{path} is none of {', '.join(SUFFIXES)}.")
    return Text(
        language,
        ", ".join(path.name for path in paths),
        lambda: (document for path in paths for document in read_documents(path)),
    )


def read_documents(path: Path) -> Iterator[str]:
    """The documents of one file, as a stream. Raises CorpusError with the file, and the line if one is to blame."""
    readers = {".txt": _read_txt, ".jsonl": _read_jsonl, ".jsonl.gz": _read_jsonl, ".parquet": _read_parquet}
    try:
        yield from readers[_suffix(path) or ".txt"](path)
    except UnicodeDecodeError as error:
        line = _undecodable_line(path)
        raise CorpusError(
            f"{path}{f', line {line},' if line else ''} is not UTF-8 ({error.reason}). Convert it, for example with iconv."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from None


def _undecodable_line(path: Path) -> int:
    """The first line that is not UTF-8, 0 where there are no lines. The decoder works in blocks and doesn't know it."""
    if path.suffix == ".parquet":
        return 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _read_txt(path: Path) -> Iterator[str]:
    block: list[str] = []
    size = 0
    with path.open(encoding="utf-8-sig") as file:
        while line := file.readline(DOCUMENT_CHARACTERS):
            if line.strip():
                block.append(line)
                size += len(line)
            if block and (not line.strip() or size >= DOCUMENT_CHARACTERS):
                yield "".join(block).strip()
                block, size = [], 0
    if block:
        yield "".join(block).strip()


def _read_jsonl(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{path}, line {number}, is not JSON: {error}.") from None
            if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                raise CorpusError(f"{path}, line {number}, has no field 'text' with a string in it.")
            try:
                record["text"].encode()  # half of a surrogate pair is JSON, but no tokenizer takes it
            except UnicodeEncodeError as error:
                raise CorpusError(f"{path}, line {number}, has a broken character: {error.reason}.") from None
            yield from _nonempty(record["text"])


def _read_parquet(path: Path) -> Iterator[str]:
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError:
        raise CorpusError(f"reading {path} needs pyarrow: pip install 'monoglot[datasets]'.") from None
    try:
        file = parquet.ParquetFile(path)
        if "text" not in file.schema_arrow.names:
            raise CorpusError(f"{path} has no column 'text'; it has {', '.join(file.schema_arrow.names)}.")
        kind = file.schema_arrow.field("text").type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(kind) or types.is_large_string(kind)):
            raise CorpusError(f"{path}: the column 'text' holds {kind}, not strings.")
        for batch in file.iter_batches(batch_size=256, columns=["text"]):
            for text in batch.column(0).to_pylist():
                yield from _nonempty(text)
    except ArrowException as error:
        raise CorpusError(f"{path} is not a readable parquet file: {error}.") from None


def _nonempty(text: Any) -> Iterator[str]:
    if isinstance(text, str) and text.strip():
        yield text.strip()


def _from_hub(dataset: str, languages: Sequence[str]) -> list[Text]:
    try:
        import datasets
    except ImportError:
        raise CorpusError(
            f"there is no folder {dataset}. To read the Hub dataset of that name: pip install 'monoglot[datasets]'."
        ) from None
    if not languages:
        raise CorpusError(f"say which languages of {dataset} to read, for example --languages en,zh,fr.")
    try:
        configurations = datasets.get_dataset_config_names(dataset)
    except Exception as error:  # the library raises its own, the Hub's, fsspec's and the network's errors here
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusError(f"there is no folder {dataset}, and the Hub dataset cannot be read: {reason}") from None
    return [_from_configuration(datasets, dataset, configurations, language) for language in languages]


def _from_configuration(datasets: Any, dataset: str, configurations: list[str], language: str) -> Text:
    """The newest configuration that is the language's code, or ends in it (`20231101.zh`)."""
    named = re.compile(rf"(.*[._-])?{re.escape(language)}")
    fitting = sorted(filter(named.fullmatch, configurations))
    if not fitting:
        raise CorpusError(f"{dataset} has no configuration for {language}; it has {', '.join(configurations[:20])}.")

    def documents() -> Iterator[str]:
        rows = _stream(datasets, dataset, fitting[-1])
        for row in rows:
            if "text" not in row:
                raise CorpusError(f"{dataset} has no field 'text'; it has {', '.join(row)}.")
            yield from _nonempty(row["text"])

    return Text(language, f"{dataset} ({fitting[-1]})", documents)


def _stream(datasets: Any, dataset: str, configuration: str) -> Iterator[Any]:
    """The rows of a configuration; whatever the network does in between is a CorpusError."""
    try:
        yield from datasets.load_dataset(dataset, configuration, split="train", streaming=True)
    except Exception as error:  # the library raises its own, the Hub's, fsspec's and the network's errors here
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusError(f"the Hub dataset {dataset} ({configuration}) cannot be read: {reason}") from None


IDENTIFY_DOCUMENTS = 400
IDENTIFY_CHARACTERS = 500


def mislabelled(text: Text) -> tuple[float, str]:
    """The share of documents that an identifier places in another language than the label, and the commonest of those.

    Over the first 400 documents, 500 characters each; documents it is unsure of (p < 0.7) count for the label. A label
    that the identifier doesn't know gives (0.0, "").
    """
    label = re.split(r"[-_]", text.language)[0]
    if not knows(label):
        return 0.0, ""
    seen = 0
    others: dict[str, int] = {}
    for document in islice(text.documents(), IDENTIFY_DOCUMENTS):
        language, certainty = guess(document[:IDENTIFY_CHARACTERS], (label,))
        seen += 1
        if language != label and certainty >= CERTAINTY:
            others[language] = others.get(language, 0) + 1
    if not others:
        return 0.0, ""
    return sum(others.values()) / seen, max(others, key=lambda language: others[language])
