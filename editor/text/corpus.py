"""Text in K languages: where it lies and how it is labelled.

A corpus is a folder of `{lang}.txt`, `{lang}.jsonl`, `{lang}.jsonl.gz`, `{lang}.csv`, `{lang}.tsv` or `{lang}.parquet` (or
of folders `{lang}/` of such files), single files as `lang=FILE`, a Hub dataset with a configuration per language, or
`embedded`.

A language is a code of two or three small letters, perhaps with a script and a region (`zh`, `yue`, `pt-BR`, `zh-Hans`). A
name that only looks like a code (`all.txt`, `old/`, `zh-en.txt`) is read when it is asked for by name. What looks like text
and is passed over is named in a warning.

The text is read as a stream of documents (see `documents`). Every fifth document is held out: neurons are found on the
others, and effects are measured on these, so no figure rests on text that the neurons were chosen on.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import embedded
from ..certificates import check_certificates
from ..errors import CorpusError, MonoglotWarning, reason_of
from .documents import FIELD, SUFFIXES, columns, read_documents, suffix_of, text_of
from .encoding import rightly_decoded
from .languages import LANGUAGE, is_language

TEXTUAL = re.compile(
    r"\.(txt|text|jsonl?|ndjson|csv|tsv|parquet|xml|html?|md|gz|zst|bz2|xz|zip|tar|arrow)$", re.IGNORECASE
)
NO_TEXT = re.compile(r"(readme|licen[cs]e|copying|notice|authors|changelog|contributing)\b", re.IGNORECASE)
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
    """Open the texts that `specs` name, in the order of `languages`, or alphabetically when none are given.

    Raises CorpusError when a file, a folder or a wanted language is not there.
    """
    texts: dict[str, list[Text]] = {}
    for spec in specs:
        for text in _open(spec, languages):
            texts.setdefault(text.language, []).append(text)
    if missing := [language for language in languages if language not in texts]:
        raise CorpusError(
            f"the corpus has no text in {', '.join(missing)}; it has {', '.join(sorted(texts)) or 'nothing'}. "
            f"Add a file, for example `corpus` {missing[0]}=FILE."
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
        return _from_folder(folder, languages)
    if spec == embedded.NAME:
        return _from_folder(embedded.TEXTS, languages)
    if folder.exists():
        raise CorpusError(f"{spec} is a file: say its language, for example `corpus` en={spec}.")
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", spec):
        return _from_hub(spec, languages)
    raise CorpusError(f"there is no folder {spec}, and it is not the id of a Hub dataset (organisation/name).")


def _from_folder(folder: Path, languages: Sequence[str]) -> list[Text]:
    """Open the texts of a folder by their names. Warns of files and folders that look like text and are passed over."""
    files: dict[str, list[Path]] = {}
    passed_over: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        language = path.name if path.is_dir() else _stem(path)
        inner = _files_under(path) if path.is_dir() else [path]
        readable = [file for file in inner if _readable(file)]
        if readable and LANGUAGE.fullmatch(language) and (language in languages or is_language(language)):
            files.setdefault(language, []).extend(readable)
        elif why := _passed_over(path, readable):
            passed_over[path.name] = why
    if passed_over:
        listed = "; ".join(f"{' '.join(name.split())} ({why})" for name, why in list(passed_over.items())[:10])
        more = f"; and {len(passed_over) - 10} more" if len(passed_over) > 10 else ""
        warnings.warn(
            f"{folder} has what looks like text and is not read: {listed}{more}.", MonoglotWarning, stacklevel=2
        )
    if not files:
        raise CorpusError(f"{folder} has no text: name the files by language, as in en.txt or zh.jsonl.gz.")
    return [_from_files(language, paths) for language, paths in files.items()]


def _readable(path: Path) -> bool:
    """Tell whether a file of a folder is read: by its name, and a table by its columns too."""
    suffix = suffix_of(path)
    return suffix is not None and (suffix not in (".csv", ".tsv") or FIELD in columns(path))


def _passed_over(path: Path, readable: Sequence[Path]) -> str:
    """Say why a file or folder that looks like text is not read; nothing where it does not look like text."""
    if not any(map(_looks_like_text, _all_under(path) if path.is_dir() else [path])):
        return ""
    code = path.name if path.is_dir() else path.name.split(".")[0]
    if not LANGUAGE.fullmatch(code):
        small = LANGUAGE.fullmatch(code.lower())
        return (
            f"languages are written in small letters: {path.name.lower()}" if small else "it is not named by a language"
        )
    if readable:
        return f"{code} is not known as a language; ask for it by name to read it"
    return f"it has no column '{FIELD}'" if suffix_of(path) else f"it is none of {', '.join(SUFFIXES)}"


def _looks_like_text(path: Path) -> bool:
    bare = not path.suffix and LANGUAGE.fullmatch(path.name) and is_language(path.name)  # zh
    return bool(TEXTUAL.search(path.name) or bare) and not NO_TEXT.match(path.name)


def _all_under(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _files_under(folder: Path) -> list[Path]:
    """List the text files in a language's folder, at any depth; hidden ones (`._de.txt` of macOS, `.cache/`) are no text."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if suffix_of(path)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _stem(path: Path) -> str:
    return path.name.removesuffix(suffix_of(path) or "")


def _from_files(language: str, paths: list[Path]) -> Text:
    if not paths:
        raise CorpusError(f"the folder for {language} holds none of {', '.join(SUFFIXES)}.")
    for path in paths:
        if not path.is_file():
            if path.is_symlink() and not path.exists():
                raise CorpusError(f"{path} for {language} is a link to a file that is not there. Put the file there.")
            if path.exists():
                raise CorpusError(
                    f"{path} for {language} is no ordinary file, and text is read more than once. Save it in one."
                )
            raise CorpusError(f"there is no file {path} for {language}.")
        if not suffix_of(path):
            raise CorpusError(f"{path} is none of {', '.join(SUFFIXES)}.")
    warned: set[str] = set()
    return Text(
        language,
        ", ".join(path.name for path in paths),
        lambda: (document for path in paths for document in read_documents(path, warned)),
    )


def _from_hub(dataset: str, languages: Sequence[str]) -> list[Text]:
    try:
        import datasets
    except ImportError:
        raise CorpusError(
            f"there is no folder {dataset}. To read the Hub dataset of that name: pip install 'monoglot[datasets]'."
        ) from None
    if not languages:
        raise CorpusError(f"say which languages of {dataset} to read, for example `languages` en,zh,fr.")
    check_certificates(CorpusError)
    try:
        configurations = datasets.get_dataset_config_names(dataset)
    except Exception as error:  # the library raises its own, the Hub's, fsspec's and the network's errors here
        reason = reason_of(error)
        raise CorpusError(f"there is no folder {dataset}, and the Hub dataset cannot be read: {reason}") from None
    return [_from_configuration(datasets, dataset, configurations, language) for language in languages]


def _from_configuration(datasets: Any, dataset: str, configurations: list[str], language: str) -> Text:
    """Open the newest configuration that is the language's code, or ends in it (`20231101.zh`)."""
    named = re.compile(rf"(.*[._-])?{re.escape(language)}")
    fitting = sorted(filter(named.fullmatch, configurations))
    if not fitting:
        raise CorpusError(f"{dataset} has no configuration for {language}; it has {', '.join(configurations[:20])}.")

    origin = f"{dataset} ({fitting[-1]})"
    warned: set[str] = set()

    def documents() -> Iterator[str]:
        texts = (text for row in _stream(datasets, dataset, fitting[-1]) for text in text_of(row, dataset))
        return rightly_decoded(texts, origin, warned)

    return Text(language, origin, documents)


def _stream(datasets: Any, dataset: str, configuration: str) -> Iterator[Any]:
    """Yield the rows of a configuration; whatever the network does in between is a CorpusError."""
    try:
        yield from datasets.load_dataset(dataset, configuration, split="train", streaming=True)
    except Exception as error:  # the library raises its own, the Hub's, fsspec's and the network's errors here
        reason = reason_of(error)
        raise CorpusError(f"the Hub dataset {dataset} ({configuration}) cannot be read: {reason}") from None
