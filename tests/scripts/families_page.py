"""Make docs/families.md of the table: `PYTHONPATH=tests python -m scripts.families_page > docs/families.md`."""

from collections.abc import Iterator

from monoglot.editor.models.as_llama import MODEL_TYPES
from monoglot.editor.models.families import FAMILIES, Family
from monoglot.editor.models.networks import EXPERTS, Network
from monoglot.editor.models.routers import bias_of
from monoglot.editor.runtimes.capabilities import steered_in

DENSE_TOO = ("gemma4_text", "granitemoehybrid", "jamba", "nemotron_h")  # families of dense models and of mixtures

HEAD = """# Families

Every `model_type` that monoglot edits, and how its feed-forward networks lie in a checkpoint. This page is made from the
table in the code, `editor/models/families.py`; a test holds it against the table.

*Networks*: the projections by their names in the file, below the name of the layer; `{}` is the number of an expert. Where
there are several, a layer has one of them, or several beside one another. *`pin`, `add`, `shift`*: the carriers that can hold
their constants; all but `calibrated` are exact. In a mixture of experts the experts need biases for it. `deactivate` and
`scale` work in every family. *Experts off*: the router's bias that `--experts` writes to, exactly. *Run in*: runtimes in
which a baked checkpoint of the family was measured beside transformers.

| `model_type` | networks | `pin`, `add`, `shift` | experts off | run in |
|---|---|---|---|---|
"""


def page() -> str:
    return HEAD + "".join(f"{row}\n" for family in FAMILIES for row in rows(family))


def rows(family: Family) -> Iterator[str]:
    """A line for the family, or one for each group of its types of which the same is said."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in family.model_types:
        groups.setdefault((constants(family, name), router(name), ", ".join(steered_in(name))), []).append(name)
    for (carriers, bias, runtimes), names in groups.items():
        types = ", ".join(f"`{name}`" for name in names)
        networks = "; ".join(network(each) for each in family.networks)
        yield f"| {types} | {networks} | {carriers} | {bias} | {runtimes} |"


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


def router(model_type: str) -> str:
    bias = bias_of(model_type)
    return f"`{bias}`" if bias else ""


def constants(family: Family, model_type: str) -> str:
    """The carriers of constants; those of dense networks do not do for experts."""
    found = []
    if family.bias:
        found.append("`native`" + (f" (unless `{family.bias}` is off)" if isinstance(family.bias, str) else ""))
    experts = any(each.part == EXPERTS for each in family.networks)
    dense = family.networks[0] if not experts or model_type in DENSE_TOO else None
    if dense and family.flag:
        found.append(f"`flag` (`{family.flag}`)")
    if dense and model_type in MODEL_TYPES:
        found.append("`llama`")
    if dense:
        found.append("`calibrated`" + (" (of dense models)" if experts else ""))
    return ", ".join(found) or "none"


if __name__ == "__main__":
    print(page(), end="")
