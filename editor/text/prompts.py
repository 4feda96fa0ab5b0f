"""What a model is asked to go on with: a few prompts per language.

By default the beginnings of the embedded passages: the first 8 words, in scripts without spaces the first clause of 8
characters or more, so that no word is cut; the passages are the same in every language, and the held-out ones come
first. Besides there are beginnings of technical texts, as a handbook has them, in `embedded/beginnings.json`. Or a person's
own, from a file:

    prompts.jsonl      {"language": "en", "prompt": "The best way to learn is"}, one a line
    prompts/en.txt     a folder with a file per language, one prompt a line
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .. import embedded
from ..errors import CheckpointError, CorpusError
from ..files.companions import check_content
from .corpus import Text, open_corpus
from .languages import LANGUAGE

COUNT = 8  # a language
WORDS = 8
CLAUSE = {"zh": re.compile(r".{7}.*?[，。；：、！？]"), "ja": re.compile(r".{7}.*?[、。！？]")}

Prompts = dict[str, list[str]]  # by language


def beginning(text: str, language: str) -> str:
    """Return the first words of a text; in scripts without spaces the first clause, up to its comma or full stop."""
    if language in CLAUSE:
        clause = CLAUSE[language].match(text)
        return clause[0] if clause else text
    return " ".join(text.split()[:WORDS])


def passages(language: str) -> list[str]:
    """Return the embedded passages of a language, the held-out ones first; none in a language that is not embedded."""
    text: Text | None = open_corpus([embedded.NAME]).get(language)
    return [*text.part(held_out=True), *text.part(held_out=False)] if text else []


def digest(prompts: Prompts) -> str:
    """Give what a manifest says of prompts, so that another run knows whether they are the same."""
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def embedded_prompts(languages: Sequence[str] = (), count: int = COUNT) -> Prompts:
    """Return the beginnings of at most `count` embedded passages in each language, in all languages when none are named.

    The same number in two languages is the same passage. Raises CorpusError for a language that is not embedded.
    """
    known = sorted(open_corpus([embedded.NAME]))
    prompts = {
        language: [beginning(text, language) for text in passages(language)[:count]] for language in languages or known
    }
    return _complete(prompts, languages, "the embedded texts", known)


def technical_prompts() -> Prompts:
    """Return the embedded beginnings of technical texts, twelve in each language; the same number is the same text."""
    rows = json.loads((Path(embedded.__file__).parent / "beginnings.json").read_text(encoding="utf-8"))["technical"]
    return {language: [row[language] for row in rows] for language in sorted(rows[0])}


def load(path: Path, languages: Sequence[str] = (), count: int | None = None, *, what: str = "prompts") -> Prompts:
    """Read prompts from a .jsonl or a folder, at most `count` a language (None: all).

    They come in the order of `languages` or, when none are named, of the file. Raises CorpusError with the file and line that
    is wrong, for a language without prompts, and when there are none at all; `what` is what the messages call them.
    """
    if path.is_dir():
        found = _from_folder(path)
    elif not path.is_file():
        raise CorpusError(f"there is no file or folder {path} with {what}.")
    elif path.suffix == ".jsonl":
        found = _from_jsonl(path)
    else:
        raise CorpusError(f"{path} is no .jsonl. Give one, or a folder of files such as en.txt.")
    if not found:
        raise CorpusError(
            f"{path} has no prompts. Write some, for example {{'language': 'en', 'prompt': 'Once upon'}}."
        )
    chosen = {language: found.get(language, [])[:count] for language in languages or found}
    return _complete(chosen, languages, str(path), sorted(found), what)


def hashes(prompts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Give the sha256 of each language's prompts, or texts, by which another run knows whether they are the same."""
    return {language: hashlib.sha256(json.dumps(list(own)).encode()).hexdigest() for language, own in prompts.items()}


def _complete(
    prompts: Prompts, languages: Sequence[str], where: str, known: Sequence[str], what: str = "prompts"
) -> Prompts:
    for language in languages:
        if not prompts[language]:
            raise CorpusError(
                f"there are no {what} in {language!r} in {where}, only in {', '.join(known)}. Leave it out, or give "
                f"some in it{' with `prompts` FILE' if what == 'prompts' else ''}."
            )
    return prompts


def _from_jsonl(path: Path) -> Prompts:
    found: Prompts = {}
    for number, line in _lines(path):
        place = f"{path}, line {number},"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{place} is not JSON: {error}.") from None
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("language", "prompt")):
            raise CorpusError(f"{place} is not of the form {{'language': 'en', 'prompt': 'Once upon'}}.")
        if not LANGUAGE.fullmatch(record["language"]):
            raise CorpusError(f"{place} has the language {record['language']!r}; write a code such as en or pt-BR.")
        if not record["prompt"].strip():
            raise CorpusError(f"{place} has an empty prompt. Leave the line out.")
        try:
            record["prompt"].encode()  # half of a surrogate pair is JSON, but no tokenizer takes it
        except UnicodeEncodeError as error:
            raise CorpusError(f"{place} has a broken character: {error.reason}.") from None
        found.setdefault(record["language"], []).append(record["prompt"].strip())
    return found


def _from_folder(path: Path) -> Prompts:
    files = [file for file in sorted(path.glob("*.txt")) if LANGUAGE.fullmatch(file.stem)]
    if not files:
        raise CorpusError(f"{path} has no prompts: name the files by language, as in en.txt.")
    found = {file.stem: [line.strip() for _, line in _lines(file)] for file in files}
    return {language: prompts for language, prompts in found.items() if prompts}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not empty, with their numbers."""
    try:
        check_content(path)
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except CheckpointError as error:  # a pointer of Git LFS, or a web page
        raise CorpusError(str(error)) from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 ({error.reason}). Convert it, for example with iconv.") from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from None
