"""YAML as a person writes it and as a stranger may: read with nothing but plain data, each key once, and bounded.

PyYAML's safe loader reads `1e-1` as a text (YAML 1.1 wants a point and a sign), `010` as eight and `1:30` as ninety, lets the
last of two equal keys win, and takes `*alias` at its word: four hundred bytes can stand for a billion values. Here 1e-1 is a
number, 010 and 1:30 are none, a key twice is an error, and what a text stands for with its aliases written out is counted
before anything is made of it.
"""

import re
from functools import cache
from typing import Any

from ..errors import MalformedError

LONGEST = 2**20  # bytes; people write them
VALUES = 100_000  # with aliases written out
DEEPEST = 100  # mappings and lists in each other
INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|[0-9]+\.?[eE][-+]?[0-9]+|[0-9]*\.[0-9]+[eE][-+]?[0-9]+)$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
WHOLE = ("tag:yaml.org,2002:int", INT, list("-+0123456789"))
NUMBERS = ("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def parse(text: str) -> Any:
    """Read a document.

    Raises yaml.YAMLError for what is no YAML, MalformedError for a key twice and for too much of it, and ValueError
    for a date that is none.
    """
    if len(text) > LONGEST:
        raise MalformedError(f"it has {len(text):,} characters; at most {LONGEST:,} are read")
    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, [])
        return loader.construct_document(node)
    finally:
        loader.dispose()


def written(data: Any) -> str:
    """Write plain data so that `parse` reads the same: a text that it would take for a number stands in quotes."""
    import yaml

    return str(yaml.dump(data, Dumper=_dumper(), sort_keys=False, allow_unicode=True))


@cache
def _loader() -> Any:
    """Make the safe loader, which reads numbers as people write them."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe, and with the numbers of YAML 1.2."""

    old = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in known if tag not in old]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for resolver in (WHOLE, NUMBERS):
        Loader.add_implicit_resolver(*resolver)
    return Loader


@cache
def _dumper() -> Any:
    """Make the safe dumper, which knows what the loader takes for a number."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Safe, and with the numbers of YAML 1.2."""

    Dumper.add_implicit_resolver(*NUMBERS)
    return Dumper


def _count(node: Any, known: dict[int, int], inside: list[int]) -> int:
    """Count the values that a node stands for.

    Raises MalformedError when they are too many, contain themselves, or have a key twice.
    """
    import yaml

    if id(node) in inside:
        raise MalformedError("a value contains itself")
    if id(node) in known:
        return known[id(node)]
    if len(inside) >= DEEPEST:
        raise MalformedError(f"it is nested more than {DEEPEST} deep")
    inside.append(id(node))
    count = 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise MalformedError(f"it has {key.value} twice")
                seen.add((key.tag, key.value))
            count += _count(key, known, inside) + _count(value, known, inside)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_count(one, known, inside) for one in node.value)
    inside.pop()
    if count > VALUES:
        raise MalformedError(f"it stands for more than {VALUES:,} values")
    known[id(node)] = count
    return count
