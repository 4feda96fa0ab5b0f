"""What monoglot made: a checkpoint, an adapter or a GGUF file, from what each says of its making."""

from typing import TYPE_CHECKING, Any

from .lines import Lines, show_lines
from .models import named, network, weights

if TYPE_CHECKING:
    from ...editor.edits.recipe import Edit
    from ...editor.edits.script_edit import ScriptEdit


def edit_of(data: dict[str, Any]) -> "Edit":
    """Return an edit from its data in a recipe."""
    from ...editor.edits.recipe import Edit

    layers = data.get("layers")
    return Edit(**{**data, "layers": tuple(layers) if layers else None})


def checkpoint(found: dict[str, Any]) -> None:
    show_lines([*named(found), *made(found), ("", ""), *weights(found), *network(found)])


def adapter(found: dict[str, Any]) -> None:
    from ...cards.words.adapters import in_words
    from ...editor.files.floats import NAMES

    about = found["adapter"]
    lost = ", ".join(f"{language} {count:,}" for language, count in about["left_out"].items() if count)
    cut = f"; rank {about['needed']} without a limit, so neurons were left out: {lost}" if lost else ""
    size = f"{in_words(found['bytes'])} of {NAMES[about['dtype']]}"
    show_lines(
        [
            (found["name"], f"an adapter (PEFT LoRA) for {found['base']['model']}, without which it does nothing"),
            ("matrices", f"rank {about['rank']} on {about['modules']} weights, {size}{cut}"),
            *made(found),
        ]
    )


def made(found: dict[str, Any]) -> Lines:
    """Give what the manifest says of its making."""
    from ...cards.words import wording
    from ...editor.text import languages

    base = found["base"]
    revision = f" at {base['revision'][:12]}" if base["revision"] else ""
    yield "made from", f"{base['model']}{revision} ({base['fingerprint'][:12]}…) by monoglot {found['monoglot']}"
    for number, edit in enumerate(found["recipe"].get("edits", ())):
        said = f"{languages.name(edit['language'])}: {wording.operation(edit_of(edit))}; {_amount(found, edit)}"
        yield "edits" if not number else "", said
    for number, edit in enumerate(found["recipe"].get("scripts", ())):
        said = f"{wording.script_operation(script_of(edit))}; {_silenced(found, edit)}"
        yield "scripts" if not number else "", said
    yield from _in_all(found)
    yield from _carried(found)
    yield "proved", _proved(found["certificate"])
    yield "measured", ", ".join(name.replace("_", " ") for name in found["evaluation"]) or "nothing yet"
    yield "files", _files(found["files"])


def _amount(found: dict[str, Any], edit: dict[str, Any]) -> str:
    code = edit["language"]
    if edit["op"] == "redirect" and "point" in edit:
        return "1 neuron"
    if edit["op"] == "redirect":
        return f"{found['redirected'][code]['tokens']:,} tokens"
    if edit["op"] == "vector":
        return "every token"
    return f"{found['edited'][code]:,} neurons, {found['kept'][code]:,} shared ones kept"


def _in_all(found: dict[str, Any]) -> Lines:
    if found["edited"]:
        yield (
            "",
            f"{found['neurons_edited']:,} neurons in all; neurons of several languages: {found['recipe']['shared']}",
        )
    if table := found["output_table"]:
        yield "output table", f"{table['tensor']}, {table['bytes'] / 1e6:,.1f} MB: the base has one table for both ends"
    if errors := found["one_table"]:
        cost = ", ".join(f"{code} {error['kl']:.3g}" for code, error in errors.items())
        yield "output table", f"the same as the input's, which was edited; KL of what is written, nats: {cost}"


def _carried(found: dict[str, Any]) -> Lines:
    if found["constants_in"]:
        left = found["layers_left_out"]
        omitted = f"; layers {', '.join(map(str, left))} left out" if left else ""
        yield "carrier", f"{found['constants_in']}{omitted}"
    if found["strength"]:
        reached = "" if found["strength"]["reached"] else ", which fell short of what was asked"
        yield "strength", f"searched for {found['strength']['language']}{reached}"
    if tried := found["candidates"]:
        short = "" if tried["reached"] else ", none of which does all that was asked"
        yield "search", f"{tried['tried']} way{'s' * (tried['tried'] != 1)} tried{short}"


def _proved(certificate: dict[str, bool]) -> str:
    if not certificate:
        return "nothing yet: monoglot verify"
    return ", ".join(f"{name} {'passed' if passed else 'FAILED'}" for name, passed in certificate.items())


def _files(files: dict[str, Any]) -> str:
    how = "the sha256" if files["by"] == "sha256" else "the size"
    problems = [f"missing: {', '.join(files['missing'])}"] * bool(files["missing"])
    problems += [f"of another {files['by']}: {', '.join(files['changed'])}"] * bool(files["changed"])
    if problems:
        return f"NOT as the manifest lists them; {'; '.join(problems)}"
    more = "" if files["by"] == "sha256" else " (--hashes reads them)"
    return f"{files['listed']}, each with {how} that the manifest lists{more}"


def gguf(found: dict[str, Any]) -> None:
    types = ", ".join(f"{count:,} {name}" for name, count in found["types"].items())
    title = f", {found['title']}" if found["title"] else ""
    show_lines(
        [
            (found["name"], f"a GGUF file of the architecture {found['architecture']}{title}"),
            ("weights", f"{found['bytes'] / 1e6:,.1f} MB, {found['tensors']:,} tensors: {types}"),
            *(_converted(found["converted"]) if found["converted"] else ()),
            *(_cleared(found["made"]) if found["made"] else ()),
            ("", ""),
        ]
    )
    if not found["editable"]:
        show_lines([("cannot be edited", found["reason"])])
        return
    rows = ", ".join(found["row_types"])
    held = f"rows of blk.*.ffn_up.weight ({rows})" + (", after the gate's" if found["gate_in_up"] else "")
    shape = f"{found['layers']} layers × {found['width']:,} = {found['neurons']:,} neurons, {found['hidden']:,} wide"
    show_lines(
        [
            ("feed-forward", f"{shape}; gated; {held}"),
            ("operations", "deactivate, exactly; for all others bake the safetensors checkpoint, then convert it"),
        ]
    )


def _converted(made: dict[str, Any]) -> Lines:
    base = made["checkpoint"]["base"]["model"]
    yield "converted from", f"a checkpoint of {base} by monoglot {made['monoglot']}, to {made['type']}"
    yield "edits", ", ".join(f"{edit['op']} {edit['language']}" for edit in made["checkpoint"]["recipe"]["edits"])
    if survival := made["survival"]:
        kept = "fades" if survival["faded"] else "survives"
        yield "steering", f"{kept}: KL(unquantised ‖ {made['type']}) {survival['kl']:.2g} nats"
    yield "file", _same(made["file"])


def _same(file: dict[str, Any]) -> str:
    by = "sha256" if file["by"] == "sha256" else "size"
    more = "" if by == "sha256" else " (--hashes reads it)"
    return f"of the {by} that its sidecar says{more}" if file["same"] else f"NOT of the {by} that its sidecar says"


def _cleared(made: dict[str, Any]) -> Lines:
    from ...editor.text import languages

    base = made["base"]
    yield "made from", f"{base['name']} (sha256 {base['sha256'][:12]}…) by monoglot {made['monoglot']}"
    for number, edit in enumerate(made["recipe"]["edits"]):
        k = edit["language"]
        counts = f"{made['edited'][k]:,} neurons, {made['kept'][k]:,} shared ones kept"
        yield "edits" if not number else "", f"{languages.name(k)}: deactivated; {counts}"
    yield "", f"{made['neurons_edited']:,} neurons in all; neurons of several languages: {made['recipe']['shared']}"
    checked = {name: bool(one["passed"]) for name, one in (made["certificate"] or {}).items()}
    yield "proved", _proved(checked)
    yield "file", _same(made["file"])


def script_of(edit: dict[str, Any]) -> "ScriptEdit":
    """Return an edit of a script from its data in a recipe."""
    from ...editor.edits.script_edit import ScriptEdit

    return ScriptEdit(**edit)


def _silenced(found: dict[str, Any], edit: dict[str, Any]) -> str:
    return f"{edit['script']}, {found['silenced'][edit['script']]['tokens']:,} tokens"
