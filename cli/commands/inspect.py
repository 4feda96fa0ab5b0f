"""monoglot inspect: what a model, a checkpoint or a file is, on one screen."""

import textwrap
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from ..console import answer, as_options, table
from ..terminal import say

if TYPE_CHECKING:
    from ...editor.edits.recipe import Edit
    from ...editor.edits.script_edit import ScriptEdit

MARGIN = 17  # columns
WIDEST = 110
EXACT = {"native": "exact, in the biases that it has", "flag": "exact", "llama": "exact", "calibrated": "approximate"}
Lines = Iterable[tuple[str, str]]


@click.command("inspect")
@click.argument("what", metavar="MODEL|OUT|FILE")
@click.option("--hashes", is_flag=True, help="Of what monoglot made: read all of its files and compare their sha256.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(what: str, hashes: bool, as_json: bool) -> None:
    """Say what something is.

    A model (a folder, a Hub id, or `embedded`), a checkpoint or an adapter that monoglot made, a GGUF file, neurons.json,
    statistics, a calibration, a vocabulary, a silence, or a recipe.yaml.

    Of a model: its feed-forward network, which operations it can take and where their constants would go. Reads headers
    and runs nothing; of a model on the Hub it downloads them alone.

    
    monoglot inspect google/gemma-3-270m
    monoglot inspect OUT --hashes
    monoglot inspect neurons.json
    """
    from ...editor.describe import describe

    found = reasons_said(describe(what, hashes=hashes))
    if (
        hashes
        and found["kind"] not in ("checkpoint", "adapter")
        and not found.get("made")
        and not found.get("converted")
    ):
        raise click.UsageError("--hashes goes with a checkpoint that monoglot made.")
    if as_json:
        answer(found)
        return
    SHOWN[found["kind"]](found)


def reasons_said(found: dict[str, Any]) -> dict[str, Any]:
    """Name options where the library's reasons name arguments."""
    said = {**found, "reason": as_options(found["reason"])} if found.get("reason") else found
    for key in {"operations", "carriers"} & found.keys():
        said = {**said, key: {name: why and as_options(why) for name, why in found[key].items()}}
    return said


def show_lines(lines: Lines) -> None:
    """Each fact beside its name, wrapped to the terminal."""
    import shutil

    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    for name, text in lines:
        head = f"{name:<{MARGIN - 1}} "
        text = "".join(one if one.isprintable() else "�" for one in text)  # a config may hold anything
        wrapped = textwrap.wrap(text, max(20, width - MARGIN), break_long_words=False, break_on_hyphens=False) or [""]
        say("\n".join((head if not at else " " * MARGIN) + line for at, line in enumerate(wrapped)))


def model(found: dict[str, Any]) -> None:
    show_lines([*named(found), *weights(found), *network(found)])


def named(found: dict[str, Any]) -> Lines:
    revision = f" at {found['revision'][:12]}" if found["revision"] else ""
    yield (
        found["name"],
        f"a {found['model_type']} model{revision}"
        + (f", the text part of a {found['inside']}" if found["inside"] else ""),
    )


def weights(found: dict[str, Any]) -> Lines:
    if "tensors" in found:
        dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in found["dtypes"].items())
        files = f"{found['shards']} file{'s' * (found['shards'] != 1)}"
        tied = "tied to" if found["tied"] else "apart from"
        size = f"{found['bytes'] / 1e6:,.1f} MB, {found['tensors']:,} tensors in {files}"
        yield "weights", f"{dtypes}; {size}; output layer {tied} the embeddings"
    sizes = {"positions": found["positions"], "tokens in the vocabulary": found["vocabulary"]}
    counts = [f"{value:,} {name}" for name, value in sizes.items() if isinstance(value, int)]
    tokenizer = "chat template" if found["chat_template"] else "no chat template"
    yield "text", ", ".join([*counts, tokenizer if found["tokenizer"] else f"no tokenizer, {tokenizer}"])
    if "fingerprint" in found:
        yield "fingerprint", found["fingerprint"]


def network(found: dict[str, Any]) -> Lines:
    if not found["editable"]:
        yield "", ""
        yield "cannot be edited", f"{found['reason']}"
        return
    kind = "gated" if found["gated"] else "plain"
    function = found["activation_function"] or "an unknown activation function"
    from ...editor.models.identity import shape_in_words

    alike = found["layers"] * found["width"] == found["neurons"]
    shape = shape_in_words(found["layers"], found["width"], 0 if alike else found["networks"])
    shape += f" = {found['neurons']:,} neurons, {found['hidden']:,} wide"
    yield "feed-forward", f"{shape}; {kind}, {function}; {found['layout']}"
    if found["experts"]:
        stay = found["experts_stay"]
        off = f"they cannot be switched off: {stay}" if stay else "--experts switches them off"
        yield "experts", f"{' or '.join(f'{experts:,}' for experts in found['experts'])} in a layer that has any; {off}"
    flag = f", {found['bias_flag']} in config.json turns them on" if found["bias_flag"] and not found["biases"] else ""
    ignored = f", and {len(found['ignored_biases'])} that its config ignores" if found["ignored_biases"] else ""
    yield (
        "biases",
        ("in its feed-forward layers" if found["biases"] else "none in its feed-forward layers") + flag + ignored,
    )
    if found["quantised"]:
        yield (
            "quantised",
            f"{found['quantised']}; neurons are switched off in the stored codes, nothing is quantised anew",
        )
    yield "runtimes", f"baked models of its family were measured in {', '.join(found['runtimes']) or 'none'}"
    yield "", ""
    able = [op for op, why in found["operations"].items() if not why]
    yield (
        "operations",
        f"{', '.join(able)}"
        + (
            "; add takes the places of neurons that are deactivated or spare"
            if found["gated"] and "add" in able
            else ""
        ),
    )
    if refused := {op: why for op, why in found["operations"].items() if why}:
        yield "", f"not {', '.join(refused)}: {next(iter(refused.values()))}"
        if found["quantised"] and "vector" in able:
            yield "vectors", "at the embedding" * ("redirect" in able) + after_layers(found)
        return
    first = "constants of"
    for name, why in found["carriers"].items():
        chosen = ", what auto takes" if name == found["carrier"] else ""
        yield first, f"{name:<10} " + (f"no: {why}" if why else f"yes, {EXACT[name]}{chosen}")
        first = "pin, add, shift" if first == "constants of" else ""


def after_layers(found: dict[str, Any]) -> str:
    """Say whether vectors can be added after the layers of a quantised model, as the end of a line."""
    begin = ", and " if "redirect" in [op for op, why in found["operations"].items() if not why] else ""
    if found["carrier"]:
        return f"{begin}after a layer{', in its bias' if found['biases'] else ' that is not quantised'}"
    return f"; not after a layer: {found['carriers']['calibrated']}"


def _edit(data: dict[str, Any]) -> "Edit":
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
        said = f"{languages.name(edit['language'])}: {wording.operation(_edit(edit))}; {_amount(found, edit)}"
        yield "edits" if not number else "", said
    for number, edit in enumerate(found["recipe"].get("scripts", ())):
        said = f"{wording.script_operation(_script(edit))}; {_silenced(found, edit)}"
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
        yield "search", f"{tried['tried']} ways tried{short}"


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


def neurons(found: dict[str, Any]) -> None:
    method = found["method"]
    settings = [f"{key} {value:g}" for key, value in method.items() if isinstance(value, float)]
    show_lines(
        [
            ("neurons", f"of {len(found['languages'])} languages, {found['neurons']:,} in {found['layers']} layers"),
            ("model", _model(found["model"]) if found["model"] else "not said"),
            ("found by", ", ".join([str(method.get("name", "hand")), *settings])),
            ("values", ", ".join(found["values"]) or "none: they can be deactivated and scaled, not pinned"),
            ("spare", f"{found['spare']:,} neurons that are hardly ever active, whose places add may take"),
        ]
    )
    thirds = _thirds(found["layers"])
    table(
        "",
        ("language", "neurons", "of no other", *(f"layers {first}-{last - 1}" for first, last in thirds)),
        [
            (k, f"{one['neurons']:,}", f"{one['alone']:,}", *(f"{sum(one['by_layer'][a:b]):,}" for a, b in thirds))
            for k, one in found["languages"].items()
        ],
    )


def _thirds(layers: int) -> list[tuple[int, int]]:
    """Return the first, the middle and the last layers, as [first, end)."""
    ends = [layers * part // 3 for part in range(4)]
    return [(a, b) for a, b in pairwise(ends) if a < b]


def _model(about: dict[str, Any]) -> str:
    from ...editor.models.identity import ModelInfo

    revision = f" at {about['revision'][:12]}" if about["revision"] else ""
    return (
        f"{about['name']}{revision} ({about['model_type']}, {ModelInfo.of_data(about).in_words}, "
        f"{about['fingerprint'][:12]}…)"
    )


def statistics(found: dict[str, Any]) -> None:
    inputs, per_text = found["inputs"], found["per_text"]
    holds = {
        "histograms, for medians and percentiles": found["histograms"],
        f"means over {sum((per_text or {}).values()):,} texts, for average precision": bool(per_text),
        f"what the layers read, over {(inputs or {}).get('tokens', 0):,} tokens, for a calibration": bool(inputs),
    }
    settings = ", ".join(f"{key} {value}" for key, value in found["settings"].items())
    show_lines(
        [
            ("statistics", f"{len(found['languages'])} languages, {found['bytes'] / 1e6:,.1f} MB"),
            ("model", _model(found["model"])),
            ("holds", "; ".join(["active counts and sums", *(what for what, there in holds.items() if there)])),
            ("not", "; ".join(what.replace(" 0", "") for what, there in holds.items() if not there) or "–"),
            ("settings", settings or "none"),
        ]
    )
    table(
        "",
        ("language", "tokens", "texts read"),
        [(k, f"{one['tokens']:,}", one["texts"]) for k, one in found["languages"].items()],
    )


def calibration(found: dict[str, Any]) -> None:
    errors, worst = found["errors"], found["worst_layer"]
    show_lines(
        [
            ("calibration", f"of a model with fingerprint {found['fingerprint'][:12]}…"),
            ("directions", f"{found['layers']} layers × {found['hidden']:,}, for {found['dtype']} weights"),
            ("fitted to", f"{found['tokens']:,} tokens in {', '.join(found['languages'])}"),
            (
                "error",
                f"of the activation, on {found['unseen']:,} unseen tokens: {min(errors):.1%} in the best layer, "
                f"{errors[worst]:.1%} in the worst, {worst}"
                if errors
                else "no layers",
            ),
        ]
    )


def vocabulary(found: dict[str, Any]) -> None:
    model = found["model"]
    print_ = f" ({model['fingerprint'][:12]}…)"
    by_script = f"; {found['by_script']:,} more by their script ({', '.join(found['scripts'])})"
    say(
        [
            ("vocabulary", f"of {model['name']}{print_}, {found['rows']:,} tokens of {found['hidden']:,} numbers"),
            ("used", f"{found['used']:,} by the texts" + (by_script if found["by_script"] else "")),
            ("", ""),
        ]
    )
    table(
        "",
        ("language", "tokens counted", "different ones"),
        [(k, f"{one['tokens']:,}", f"{one['different']:,}") for k, one in found["languages"].items()],
    )


def silence(found: dict[str, Any]) -> None:
    model, floor = found["model"], found["floor"]
    ways = {
        script: ", ".join(dict.fromkeys(one["piece"].upper() for one in own["staying"]))
        for script, own in found["scripts"].items()
    }
    say(
        [
            ("silence", f"of {model['name']} ({model['fingerprint'][:12]}…), {found['rows']:,} tokens"),
            *((("may still be written", found["spared"]),) if found["spared"] else ()),
            ("languages", ", ".join(found["languages"]) or "none were looked at"),
            (
                "held down by",
                f"-{floor['strength']:g} × w·h; w·h is {floor['mean']:.2f} ± {floor['deviation']:.2f} on "
                f"{floor['unseen']:,} unseen positions, never below {floor['lowest']:.2f} (on {floor['lowest_kind']})"
                if floor
                else "the bias of the output layer",
            ),
            ("", ""),
        ]
    )
    table(
        "",
        ("script", "tokens", "whole", "mixed", "pieces", "beginnings that stay"),
        [
            (script, *(f"{own[key]:,}" for key in ("tokens", "whole", "mixed", "pieces")), ways[script])
            for script, own in found["scripts"].items()
        ],
    )


def _script(edit: dict[str, Any]) -> "ScriptEdit":
    from ...editor.edits.script_edit import ScriptEdit

    return ScriptEdit(**edit)


def _silenced(found: dict[str, Any], edit: dict[str, Any]) -> str:
    return f"{edit['script']}, {found['silenced'][edit['script']]['tokens']:,} tokens"


def recipe(found: dict[str, Any]) -> None:
    from ...cards.words import wording
    from ...editor.text import languages

    base = found["base"]
    print_ = f" with fingerprint {base['fingerprint'][:12]}…" if base["fingerprint"] else ", whatever its fingerprint"
    there = "" if found["neurons_there"] else ", which is not there"
    settings = {"carrier": found.get("carrier"), "slots": found.get("slots"), "tolerance": found.get("tolerance")}
    show_lines(
        [
            ("recipe", f"for {base['model']}{'@' + base['revision'][:12] if base['revision'] else ''}{print_}"),
            *((("neurons", f"{found['neurons']}{there}"),) if found["neurons"] else ()),
            *((("vocabulary", found["vocabulary"]),) if found["vocabulary"] else ()),
            *((("silence", found["silence"]),) if found["silence"] else ()),
            *(
                ("edits" if not at else "", f"{languages.name(edit['language'])}: {wording.operation(_edit(edit))}")
                for at, edit in enumerate(found.get("edits", ()))
            ),
            *(
                ("scripts" if not at else "", f"{edit['script']}: {wording.script_operation(_script(edit))}")
                for at, edit in enumerate(found.get("scripts", ()))
            ),
            *((("shared neurons", found["shared"]),) if found["neurons"] else ()),
            *((name, str(value)) for name, value in settings.items() if value is not None),
        ]
    )


SHOWN: dict[str, Callable[[dict[str, Any]], None]] = {
    "model": model,
    "checkpoint": checkpoint,
    "adapter": adapter,
    "gguf": gguf,
    "neurons": neurons,
    "statistics": statistics,
    "calibration": calibration,
    "vocabulary": vocabulary,
    "silence": silence,
    "recipe": recipe,
}
