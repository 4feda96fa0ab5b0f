"""The metadata of a model card: what the Hub takes, checked without it, and what comes from the base's.

    license, license_name, license_link   an id of the Hub's list; `other` with a name, and where its text is
    language, language_bcp47              ISO 639 codes of two or three letters; with subtags in a list of their own
    base_model, base_model_relation       org/name; what was done to it
    pipeline_tag, library_name            a task of the Hub's list; a word
    tags, datasets, metrics, model-index  lists of strings; what was measured (see `results`)

Text is quoted wherever YAML 1.1 or 1.2 could take it for something else: Norwegian is "no", not false.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...editor.errors import CardError
from ...editor.files import card_text
from .vocabulary import LANGUAGES, LICENSES, PIPELINES, RELATIONS

CODE = re.compile("[a-z]{2,3}")
BCP47 = re.compile("[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})+|[A-Za-z]{2,3}")
MODEL_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
WORD = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
LINK = re.compile(r"https?://[^\s/]\S*")
FILE = re.compile(r"(?!\.\.)[\w.-]+(/(?!\.\.)[\w.-]+)*")
LONGEST = 128  # characters of a tag, a name or an id (ours)
PLAIN = re.compile(r"[A-Za-z][\w./+-]*( [\w./+-]+)*", re.ASCII)  # what needs no quotes, unless YAML has a use for it
RESERVED = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"))


def problems(data: Mapping[Any, Any]) -> list[str]:
    """List what the Hub would refuse or misunderstand in a card's metadata, each a sentence with its cause and the next step.

    The list is empty when there is nothing. Only `data` is looked at: whether a base model or a data set exists is not known.
    """
    found = [
        f"{key!r} is no name for a key: put it in quotes, or delete it." for key in data if not isinstance(key, str)
    ]
    for key, check in CHECKS.items():
        if key in data:
            found += check(data[key], key) if data[key] is not None else [f"{key} is empty: fill it in, or delete it."]
    for key, value in data.items():
        if key not in CHECKS and not _is_data(value):
            found.append(f"{key} holds something that JSON has no word for: put it in quotes, or delete it.")
    licenses = _listed(data.get("license"))
    if "other" in licenses and not data.get("license_name"):
        found.append("license: other needs a license_name, and a license_link to its text: add them.")
    if not licenses and (alone := [key for key in ("license_name", "license_link") if data.get(key)]):
        found.append(f"{alone[0]} says nothing without a license: add `license: other`, or the id of the licence.")
    if data.get("base_model_relation") and not data.get("base_model"):
        found.append("base_model_relation says nothing without a base_model: add it, or delete both.")
    return found


def card_problems(path: Path) -> list[str]:
    """List the problems of a README.md's metadata, and what keeps it from being read."""
    try:
        return problems(card_text.metadata_of(path))
    except CardError as error:
        return [str(error)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _strings(value: Any, key: str, right: Callable[[str], bool], step: str, *, one: bool) -> Iterator[str]:
    """Problems of a list of strings, or where `one` of a string too."""
    if not isinstance(value, list if not one else (list, str)):
        yield f"{key} is {_shown(value)}: {'write text in quotes' if one else 'write a list'}{_trap(value)}."
        return
    seen: set[str] = set()
    for item in _listed(value):
        if not isinstance(item, str):
            yield f"{key} has {_shown(item)}, which is no text: put it in quotes{_trap(item)}."
        elif not right(item):
            yield f"{key} has {_shown(item)}: {step}."
        elif item in seen:
            yield f"{key} has {_shown(item)} twice: delete one."
        else:
            seen.add(item)


def _list_of(right: Callable[[str], bool], step: str, *, one: bool = False) -> Callable[[Any, str], list[str]]:
    return lambda value, key: list(_strings(value, key, right, step, one=one))


def _one_of(right: Callable[[str], bool], step: str) -> Callable[[Any, str], list[str]]:
    def check(value: Any, key: str) -> list[str]:
        if not isinstance(value, str):
            return [f"{key} is {_shown(value)}, which is no text: put it in quotes{_trap(value)}."]
        return [] if right(value) else [f"{key} is {_shown(value)}: {step}."]

    return check


def _shown(value: Any) -> str:
    text = " ".join((repr(value) if isinstance(value, str) else str(value)).split())
    return text if len(text) <= 60 else text[:59] + "…"


def _trap(value: Any) -> str:
    """Say what a person may have meant by a boolean."""
    if not isinstance(value, bool):
        return ""
    return " (YAML takes yes and on for true)" if value else ' (YAML takes no and off for false: Norwegian is "no")'


def _is_line(text: str) -> bool:
    return bool(text.strip()) and text == text.strip() and len(text) <= LONGEST and text.isprintable()


def _is_link(text: str) -> bool:
    return bool(LINK.fullmatch(text) or FILE.fullmatch(text))


def is_model(text: str) -> bool:
    """Whether a name can be that of a model or a data set on the Hub: org/name, or of the oldest ones the name alone."""
    return bool(MODEL_ID.fullmatch(text)) and len(text) <= LONGEST and not text.endswith((".git", ".", "-"))


def _is_data(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_data, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_data(one) for key, one in value.items())
    return value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _model_index(value: Any, key: str) -> list[str]:
    """name, results[task.type, dataset.name and .type, metrics[type, value]], of each entry."""
    if not isinstance(value, list) or not value:
        return [f"{key} is {_shown(value)}: write a list of models with name and results, or delete it."]
    found: list[str] = []
    for number, model in enumerate(value):
        place = f"{key}[{number}]"
        found += _wanted(model, place, {"name": str, "results": list})
        results = model.get("results") if isinstance(model, dict) else None
        for at, result in enumerate(results if isinstance(results, list) else []):
            found += _result(result, f"{place}.results[{at}]")
    return found


def _result(result: Any, place: str) -> Iterator[str]:
    yield from _wanted(result, place, {"task": dict, "dataset": dict, "metrics": list})
    if not isinstance(result, dict):
        return
    if isinstance(result.get("task"), dict):
        yield from _wanted(result["task"], f"{place}.task", {"type": str})
    if isinstance(result.get("dataset"), dict):
        yield from _wanted(result["dataset"], f"{place}.dataset", {"name": str, "type": str})
    metrics = result.get("metrics")
    for number, metric in enumerate(metrics if isinstance(metrics, list) else []):
        where = f"{place}.metrics[{number}]"
        yield from _wanted(metric, where, {"type": str})
        if isinstance(metric, dict) and not _is_figure(metric.get("value")):
            yield f"{where}.value is {_shown(metric.get('value'))}: give a number, text, or an object of them."


def _is_figure(value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and bool(value or value == 0) and _is_data(value)


def _wanted(data: Any, place: str, keys: Mapping[str, type]) -> Iterator[str]:
    if not isinstance(data, dict):
        yield f"{place} is {_shown(data)}: it needs {' and '.join(keys)}."
        return
    words: dict[type, str] = {str: "text", list: "a list", dict: "an object"}
    for key, kind in keys.items():
        if not isinstance(data.get(key), kind) or not data[key]:
            yield f"{place}.{key} is {_shown(data.get(key))}: it has to be {words[kind]}."


IDS = "give the id that it has on the Hub, org/name, no path and no link"
TEXT = f"give one line of up to {LONGEST} characters, without spaces at its ends"
CHECKS: dict[str, Callable[[Any, str], list[str]]] = {
    "license": _list_of(
        LICENSES.__contains__,
        "the Hub's ids are in huggingface.co/docs/hub/repositories-licenses; for another licence write `license: other` with "
        "license_name and license_link",
        one=True,
    ),
    "license_name": _one_of(_is_line, TEXT),
    "license_link": _one_of(_is_link, "give an address that begins with https://, or the name of a file in the repository"),
    "language": _list_of(
        lambda code: bool(CODE.fullmatch(code)) or code in LANGUAGES,
        "give an ISO 639 code of two or three small letters, `multilingual` or `code`; one with subtags goes into "
        "language_bcp47",
        one=True,
    ),
    "language_bcp47": _list_of(
        lambda code: bool(BCP47.fullmatch(code)), "give a BCP 47 tag, such as pt-BR or zh-Hans", one=True
    ),
    "base_model": _list_of(is_model, IDS, one=True),
    "base_model_relation": _one_of(RELATIONS.__contains__, f"it is one of {', '.join(RELATIONS)}"),
    "new_version": _one_of(is_model, IDS),
    "pipeline_tag": _one_of(
        PIPELINES.__contains__, "give a task of huggingface.co/tasks by its id, such as text-generation"
    ),
    "library_name": _one_of(lambda text: bool(WORD.fullmatch(text)), "give a word, such as transformers"),
    "tags": _list_of(_is_line, TEXT),
    "datasets": _list_of(is_model, IDS, one=True),
    "metrics": _list_of(_is_line, TEXT),
    "thumbnail": _one_of(_is_link, "give an address that begins with https://"),
    "model-index": _model_index,
}  # fmt: skip


# --- from the base's -------------------------------------------------------------------------------------------------


def inherited(base: Mapping[Any, Any], folder: Path, model: str | None) -> dict[str, Any]:
    """Return the metadata that a model inherits from its base: licence, languages, task and tags, as far as they are valid.

    `base` is the base's metadata, `folder` its folder, `model` its id on the Hub, if it has one. Measured results are not
    inherited.
    """
    own, tagged = codes(_listed(base.get("language")))
    more = codes(_listed(base.get("language_bcp47")))[1]
    pipeline = base.get("pipeline_tag")
    tags = [tag.strip() for tag in _listed(base.get("tags")) if isinstance(tag, str) and _is_line(tag.strip())]
    return {
        **_licence(base, folder, model),
        "language": own,
        "language_bcp47": list(dict.fromkeys([*tagged, *more])),
        "pipeline_tag": pipeline if isinstance(pipeline, str) and pipeline in PIPELINES else "text-generation",
        "tags": list(dict.fromkeys(tags)),
    }


def _licence(base: Mapping[Any, Any], folder: Path, model: str | None) -> dict[str, Any]:
    """Return the licence. One that the Hub does not know is `other`, with its name; it is never left out."""
    named = [one.strip() for one in _listed(base.get("license")) if isinstance(one, str) and _is_line(one.strip())]
    if not named:
        return {}
    known = list(dict.fromkeys(one.lower() for one in named if one.lower() in LICENSES))
    name, link = base.get("license_name"), base.get("license_link")
    found: dict[str, Any] = {"license": (known[0] if len(known) == 1 else known) if known else "other"}
    if isinstance(name, str) and _is_line(name.strip()):
        found["license_name"] = name.strip()
    elif not known:
        found["license_name"] = re.sub(r"[^a-z0-9.]+", "-", named[0].lower()).strip("-") or "own"
    elif "other" in known:
        found["license_name"] = f"licence-of-{(model or folder.name).rsplit('/', 1)[-1].lower()}"
    if isinstance(link, str) and _is_link(link.strip()):
        found["license_link"] = link.strip()
    elif "license_name" in found and (folder / "LICENSE").is_file():
        found["license_link"] = "LICENSE"
    elif "license_name" in found and model:
        found["license_link"] = f"https://huggingface.co/{model}"
    return found


def codes(languages: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Return language codes as the Hub takes them: plain codes, and codes with subtags.

    The first part of a code with subtags is among the plain ones too. What is no code is left out; False is how YAML reads an
    unquoted `no`.
    """
    plain, tagged = [], []
    for one in languages:
        code = "no" if one is False else str(one).strip()
        if code.lower() in LANGUAGES:
            plain.append(code.lower())
        elif BCP47.fullmatch(code):
            first, *subtags = re.split("[-_]", code)
            plain.append(first.lower())
            if subtags:
                tagged.append("-".join([first.lower(), *subtags]))
    return list(dict.fromkeys(plain)), list(dict.fromkeys(tagged))


# --- YAML ------------------------------------------------------------------------------------------------------------


def to_yaml(data: Mapping[Any, Any]) -> str:
    """Write metadata as the lines between the two `---`.

    Text that YAML 1.1 or 1.2 could take for a number, a truth value or a date stands in double quotes. There are no anchors,
    and keys keep their order.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        plain = PLAIN.fullmatch(value) and value.lower() not in RESERVED
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    Dumper.add_representer(str, text)
    return yaml.dump(
        dict(data), Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=math.inf
    ).rstrip("\n")  # fmt: skip
