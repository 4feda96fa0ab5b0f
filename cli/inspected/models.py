"""A model: its weights, its feed-forward network, and which edits it can take."""

from typing import Any

from .lines import Lines, show_lines

EXACT = {"native": "exact, in the biases that it has", "flag": "exact", "llama": "exact", "calibrated": "approximate"}


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
