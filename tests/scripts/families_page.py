"""Make docs/families.md of the table: `PYTHONPATH=tests python -m scripts.families_page > docs/families.md`."""

from collections.abc import Iterator

from monoglot.editor.models.families import FAMILIES, Family
from monoglot.editor.models.networks import EXPERTS, Network
from monoglot.editor.runtimes.capabilities import FINDINGS

HEAD = """# Families

Every `model_type` that monoglot edits, and how its feed-forward networks lie in a checkpoint. This page is made from the
table in the code, `editor/models/families.py`; a test holds it against the table.

*Networks*: the projections by their names in the file, below the name of the layer; `{}` is the number of an expert. Where
there are several, a layer has one of them, or several beside one another. *Constants*: the exact carriers of `pin`, `add` and
`shift`; `deactivate` and `scale` work in every family. A family without experts can take the calibrated carrier too, one with
experts cannot. *Run in*: runtimes in which a baked checkpoint of the family was measured beside transformers.

| `model_type` | networks | constants | run in |
|---|---|---|---|
"""


def page() -> str:
    return HEAD + "".join(f"{row}\n" for family in FAMILIES for row in rows(family))


def rows(family: Family) -> Iterator[str]:
    """A line for the family, or one for each group of its types that was run in the same runtimes."""
    groups: dict[str, list[str]] = {}
    for name in family.model_types:
        groups.setdefault(run_in(name), []).append(name)
    for runtimes, names in groups.items():
        types = ", ".join(f"`{name}`" for name in names)
        networks = "; ".join(network(each) for each in family.networks)
        yield f"| {types} | {networks} | {constants(family)} | {runtimes} |"


def network(each: Network) -> str:
    *into, out = each.projections
    notes = {
        "gate and up in one tensor": each.fused,
        "interleaved": each.interleaved,
        "experts stacked": each.stacked,
        "(in, out)": each.conv1d,
    }
    said = ", ".join(note for note, applies in notes.items() if applies)
    return ", ".join(f"`{name}`" for name in into) + f" → `{out}`" + (f" ({said})" if said else "")


def constants(family: Family) -> str:
    if family.flag and not any(each.part == EXPERTS for each in family.networks):
        return f"`flag` (`{family.flag}`)"
    return (
        "`native`" + (f", unless `{family.bias}` is off" if isinstance(family.bias, str) else "")
        if family.bias
        else "none"
    )


def run_in(model_type: str) -> str:
    return ", ".join(
        dict.fromkeys(each.runtime for each in FINDINGS if model_type in each.families and each.verdict == "steered")
    )


if __name__ == "__main__":
    print(page(), end="")
