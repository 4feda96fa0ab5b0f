"""A checkpoint in words: what was done to it, where its constants live, and what was proved. From the manifest alone."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from ...editor import embedded
from ...editor.edits.certificate import Agreement, Approximation, BytesProof, Certificate, Cut, LogitsProof
from ...editor.edits.manifest import Manifest
from ...editor.edits.recipe import EMBEDDING, REDIRECT, VECTOR, Edit
from ...editor.edits.script_edit import SILENCE, ScriptEdit
from ...editor.neurons.neurons import SETTINGS
from ...editor.text import languages
from .amounts import small
from .foreign import cell, code

METHODS = {  # the neurons were found by …
    "lape": "LAPE", "lap": "LAP", "lave": "LAVE", "pv": "parameter variation", "ap": "average precision",
    "random": "drawing at random",
}  # fmt: skip


def weights_note(manifest: Manifest) -> str:
    total = manifest.base.neurons or manifest.base.layers * manifest.base.width
    edited = [f"{manifest.neurons_edited:,} of {total:,} feed-forward neurons"] * bool(manifest.neurons_edited)
    at_embedding = any(edit.point == EMBEDDING for edit in manifest.recipe.vectors)
    edited += ["rows of the embedding table"] * bool(manifest.redirected or at_embedding)
    edited += ["the routers' biases of " + _experts(manifest)] * bool(manifest.experts)
    at = sorted({int(str(edit.point)) for edit in manifest.recipe.vectors if edit.point != EMBEDDING})
    places = f"layer{'s' * (len(at) > 1)} {', '.join(map(str, at))}"
    edited += [f"{'neurons' if manifest.carrier_name == 'calibrated' else 'output biases'} of {places}"] * bool(at)
    reading = [f"the neuron that reads {one.language} in layer {one.layer}" for one in manifest.readers or ()]
    edited += reading
    edited += [f"{_where(manifest)} of {_silenced_tokens(manifest):,} tokens"] * bool(manifest.silenced)
    if manifest.adapter:
        said = f"{' and '.join(edited)} are edited by what it adds"
        return f"{said[0].upper()}{said[1:]}; no weight of the base changes. It does nothing without the base."
    verb = "was" if len(edited) == len(reading) == 1 else "were"
    said = f"{' and '.join(edited)} {verb} edited in the weights; every other byte of them is the base's."
    note = said[0].upper() + said[1:]
    if form := manifest.quantised:
        note += (
            f" They are quantised as the base's are, {form}: the neurons were switched off in the stored numbers, exactly, "
            "and nothing was quantised anew. It loads wherever the base does."
        )
    return note


def control(manifest: Manifest) -> str:
    """Say what the control does that stands beside a checkpoint."""
    neurons = "as many neurons in every layer, drawn with a seed, edited in the same way"
    tokens = "the same tokens moved as far, in directions drawn with a seed"
    if manifest.recipe.of_vocabulary:
        return f"{neurons}, and {tokens}" if manifest.neurons_edited else tokens
    if manifest.silenced and not manifest.neurons_edited:
        return "no neuron is edited here, so it is the base itself"
    return neurons


def config_note(manifest: Manifest) -> str:
    """Say what was added to config.json, where something was."""
    if not manifest.recipe.compat_config:
        return ""
    return (
        "Its config.json says in the older spelling too, with keys such as `torch_dtype` and `rope_theta`, what the base's "
        "says in that of transformers 5 alone."
    )


def _where(manifest: Manifest) -> str:
    return "output rows" if manifest.floor else "output biases"


def _silenced_tokens(manifest: Manifest) -> int:
    return sum(script.tokens for script in (manifest.silenced or {}).values())


def script_operation(edit: ScriptEdit) -> str:
    """Say in words what becomes of a script, as tables show it."""
    return "silenced" if edit.op == SILENCE else f"made {edit.nats:g} nats less likely"


def operation(edit: Edit) -> str:
    """Say in words what an edit does, as tables show it."""
    strength = edit.strength
    value, _, held = str(edit.value).partition("@")
    amount = f"the {value}" if strength in (1, None) else f"{strength:g} × the {value}"
    text = f" on {languages.listed([held])} text" if held else ""
    words = {
        "deactivate": "deactivated",
        "scale": f"scaled × {strength or 0:g}",
        "pin": f"held at {amount}{text}" if held else f"pinned at {amount}",
        "add": f"{amount}{text} added",
        "shift": f"input shifted by {amount}{text}",
        REDIRECT: f"redirected to {languages.name(str(edit.to))} × {strength or 0:g}"
        + ("" if edit.point is None else f" {point_name(edit.point)}"),
        VECTOR: f"its vector × {strength or 0:g} added {point_name(edit.point)}",
    }
    where = f" in layers {edit.layers[0]} to {edit.layers[1]}" if edit.layers else ""
    return words[edit.op] + where


def point_name(point: str | int | None) -> str:
    """Say where a vector is added."""
    return "at the embedding" if point == EMBEDDING else f"after layer {point}"


def title(manifest: Manifest) -> str:
    ours, edits = _is_embedded(manifest), manifest.recipe.edits
    short = "The embedded model" if ours else manifest.base.model.rsplit("/", 1)[-1]
    active, off = manifest.activated, manifest.deactivated
    if active:
        return f"{short} in {languages.listed(active)}"
    if off:
        return f"{short} without {languages.listed(off)}"
    if moved := manifest.recipe.redirects:
        pairs = [f"{languages.name(edit.language)} read as {languages.name(str(edit.to))}" for edit in moved]
        return f"{short}, {', '.join(pairs)}"
    if manifest.experts and not edits:
        return f"{short} without {_experts(manifest)}"
    if manifest.recipe.scripts and not edits:
        gone = [edit.script for edit in manifest.recipe.scripts if edit.op == SILENCE]
        return f"{short} {'that cannot write' if gone else 'that writes less'} {_and(gone or _scripts(manifest))}"
    how = "scaled" if all(edit.op == "scale" for edit in edits) else "edited"
    return f"{short}, {languages.listed([edit.language for edit in edits])} {how}"


def _is_embedded(manifest: Manifest) -> bool:
    return manifest.base.model == embedded.NAME and not manifest.base.hub


def summary(manifest: Manifest) -> str:
    """Say in one sentence what the checkpoint is."""
    edits, active = manifest.recipe.edits, manifest.activated
    base = "the model that comes with monoglot" if _is_embedded(manifest) else manifest.base.model
    groups: dict[tuple[str, str], list[str]] = {}
    for edit in edits:
        if edit.op == VECTOR:
            groups.setdefault(("residual stream has the vector of", f"× {edit.strength:g} added {point_name(edit.point)}"),
                              []).append(edit.language)  # fmt: skip
            continue
        verb = {"add": "have", "shift": "have their"}.get(edit.op, "are")
        what = "neurons for"
        if edit.op == REDIRECT:
            what = "tokens of" if edit.point is None else "residual stream on text in"
            verb = "are" if edit.point is None else "is"
        groups.setdefault((what, f"{verb} {operation(edit)}"), []).append(edit.language)
    parts = [f"its {what} {languages.listed(codes)} {words}" for (what, words), codes in groups.items()]
    if manifest.experts:
        parts.append(f"its routers send no token to {_experts(manifest)}")
    for script in manifest.recipe.scripts:
        became = "cannot be written any more" if script.op == SILENCE else f"are {script_operation(script)}"
        parts.append(f"its tokens in the script {script.script} {became}")
    if active:
        return f"This is {base}, made to answer in {languages.listed(active)}: {'; '.join(parts)}."
    return f"This is {base}; {'; '.join(parts)}."


def _experts(manifest: Manifest) -> str:
    """Name the experts that are switched off, at most eight of them."""
    names = [f"expert {name}" for name in manifest.experts or ()]
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} experts, {', '.join(names[:8])} and others"


def _scripts(manifest: Manifest) -> list[str]:
    return [edit.script for edit in manifest.recipe.scripts]


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def silence_note(manifest: Manifest) -> str:
    """Say how a script was silenced, how sure that is, and what is left of it."""
    floor, table = manifest.floor, manifest.output_table
    if not manifest.silenced:
        return ""
    parts = [
        f"{script}: {own.whole:,} tokens of its characters alone, {own.mixed:,} with others in them and {own.pieces:,} "
        "pieces of characters"
        + (f"; {own.staying:,} beginnings of rare ones stay, because other text needs them" if own.staying else "")
        for script, own in manifest.silenced.items()
    ]
    said = f"Tokens are found by the bytes that they write. {'. '.join(parts)}. `silence.monoglot` lists them."
    if floor is None:
        said += " The output layer has a bias, which holds them down exactly, in every runtime that loads it."
    else:
        said += (
            f" The output row of each silenced one is −{floor.strength:g} × w, w a direction of the final hidden state h. "
            f"w·h was {floor.mean:.2f} ± {floor.deviation:.2f} on {floor.unseen:,} positions of text that it was not fitted "
            f"to, and never below {floor.lowest:.2f}. So their logits are far below all others, in every runtime."
        )
    if proof := manifest.certificate and manifest.certificate.logits and manifest.certificate.logits.silenced:
        highest = max(own.highest for own in proof.values())
        positions = sum(own.positions for own in manifest.certificate.logits.by_language.values())
        said += (
            f" In this checkpoint, all silenced tokens together had a probability of at most e^{highest:.0f} at any of "
            f"{positions:,} held-out positions."
        )
    if table and not manifest.redirected:
        said += (
            f" The base uses one table for what it reads and what it writes; here the second is a tensor of its own, "
            f"`{table.tensor}`, {table.bytes / 1e6:,.0f} MB, in which the other rows are the base's."
        )
    if not manifest.recipe.untie and floor:
        said += " The base has one table for what it reads and what it writes, so it reads these tokens as others too."
    return said


def tokens_note(manifest: Manifest) -> str:
    """Say how tokens were redirected, and what that adds to the files."""
    if not manifest.redirected:
        return ""
    counted = ", ".join(f"{code} {count:,}" for code, count in (manifest.vocabulary or {}).items())
    table = manifest.output_table
    said = (
        "The row of a token in the embedding table was moved from the centre of its own language to that of the other, by "
        f"the share that the language has in the token, as counted in text (tokens: {counted}; `vocabulary.monoglot` has the "
        "counts). Tokens that the redirected languages don't use are the base's to the bit"
    )
    if errors := manifest.one_table:
        cost = ", ".join(f"{code} {error.kl:.3g} ({error.loss:+.3g})" for code, error in errors.items())
        return (
            f"{said}. The model writes with the same table, so the direction in which everything that it writes lies was "
            "taken out of the move: approximate. What that table does to the next-token distributions on the base's own "
            f"reading of held-out text, mean KL in nats and change of log-loss: {cost}."
        )
    said += ", and so is everything that the model writes with."
    if not table:
        return said
    return (
        f"{said} The base uses one table for what it reads and what it writes; here the second is a tensor of its own, "
        f"{code(table.tensor)}, {table.bytes / 1e6:,.0f} MB with the base's rows."
    )


def vectors_note(manifest: Manifest) -> str:
    """Say what vectors were added."""
    if not manifest.recipe.vectors:
        return ""
    counted = ", ".join(f"{code} {count:,}" for code, count in (manifest.vocabulary or {}).items())
    said = (
        "A language's vector is the mean of what the model's residual stream holds on its text, minus the mean of that on "
        f"the other languages' (tokens: {counted}). It is added on every position, whatever is read."
    )
    if any(edit.point == EMBEDDING for edit in manifest.recipe.vectors):
        said += " At the embedding that is an edit of the table: every row moved by the same vector."
        if not manifest.output_table and not manifest.recipe.redirects:
            said += (
                " Where the model writes with it too, all logits of a position move alike, and no probability changes."
            )
    if layers := sorted({int(str(edit.point)) for edit in manifest.recipe.vectors if edit.point != EMBEDDING}):
        said += (
            f" After layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))} it goes into the output of the "
            "feed-forward network, and where a norm stands behind that, by way of the norm."
        )
    return said


def readers_note(manifest: Manifest) -> str:
    """Say which languages a neuron reads, and how well."""
    said = []
    for one in manifest.readers or ():
        others = {code: share for code, share in one.fires.items() if code not in (one.language, one.to)}
        worst = max(others, key=lambda code: others[code], default="")
        spill = f", and on {others[worst]:.1%} of those in {worst}, the most of any other language" if worst else ""
        said.append(
            f"Neuron {one.neuron} of layer {one.layer} was made to read {languages.listed([one.language])}: on unseen text "
            f"it fires on {one.fires[one.language]:.1%} of the tokens in {one.language}, where its mean answer is "
            f"{one.response[one.language]:.2f} of what it should be{spill}. Its output moves the residual stream to the mean "
            f"of {languages.listed([one.to])} text."
        )
    return " ".join(said)


def found_by(method: dict[str, Any]) -> str:
    """How the neurons were found, from what neurons.json says of itself: "LAPE (rate 0.01, …)"."""
    title = METHODS.get(str(method.get("name")))
    if not title:
        return f"the imported mask {method['file']}" if method.get("file") else str(method.get("name", "hand"))
    settings = [f"{name} {method[name]:g}" for name in SETTINGS[method["name"]] if name != "like"]
    if "like" in method:
        settings.append(f"as many as by {found_by(method['like'])}")
    amounts = ", ".join(f"{code} {count:,}" for code, count in method.get("tokens", {}).items())
    return f"{title} ({', '.join(settings)}{f'; tokens: {amounts}' if amounts else ''})"


def form(manifest: Manifest) -> str:
    """Say what kind of checkpoint it is."""
    name = manifest.carrier_name
    if name == "flag":
        return (
            "with the base's architecture and tokenizer, and biases in its feed-forward layers that a key of its config "
            "asks for"
        )
    if name == "llama":
        return (
            "with the base's tokenizer, and its weights under the names of a Llama, which computes the same and can have "
            "biases"
        )
    if manifest.output_table:
        return "with the base's architecture and tokenizer, and an output table of its own"
    return "with the base's architecture, tensor names, shapes and tokenizer"


def carrier(manifest: Manifest) -> str:
    """Where the constants live, and what storing them cost."""
    carrier = manifest.carrier
    if not carrier:
        return ""
    where = {
        "native": "They are biases that the base's feed-forward layers have anyway: exact.",
        "flag": "They are biases that a config key turns on; all that it turns on are there, zeros included: exact.",
        "llama": "They are biases of the Llama that the model was rewritten as: exact.",
        "calibrated": "The model has no biases. In each layer a direction w of the feed-forward input with w·x ≈ 1 on real "
        "text stands in for the constant 1: approximate, with the error below.",
    }[carrier.name]
    cast = ", ".join(f"{small(error)} in {what}" for what, error in manifest.rounding.items() if error)
    left = carrier.layers_left_out
    omitted = (
        f" The constants of layer{'s' * (len(left) > 1)} {', '.join(map(str, left))} were left out: the error there is "
        "too large."
        if left
        else ""
    )
    cost = f"cost a relative {cast}" if cast else "cost nothing"
    spare = carrier.spare_neurons
    room = f" {spare:,} neurons that are hardly ever active gave up their places to what is added." if spare else ""
    return f"{where} Rounding to the checkpoint's dtype {cost}.{omitted}{room}"


class Verdict(NamedTuple):
    """A sentence about a proof; `alarm` is what a failed one is called, and comes first."""

    text: str
    alarm: str = ""

    def markdown(self) -> str:
        return f"**{cell(self.alarm)}**: {cell(self.text)}" if self.alarm else cell(self.text)


def verdicts(certificate: Certificate | None, *, adapter: bool = False) -> list[Verdict]:
    """List what was proved of a checkpoint, or an adapter; what was not looked at is left out."""
    if certificate is None:
        return []
    found = [bytes_verdict(certificate.bytes, adapter=adapter)]
    if certificate.logits:
        found.append(
            logits_verdict(certificate.logits, stand_in=certificate.approximation is not None, adapter=adapter)
        )
    if certificate.cut:
        found.append(cut_verdict(certificate.cut))
    if certificate.approximation:
        found.append(distance(certificate.approximation))
    return found


def bytes_verdict(found: BytesProof, *, adapter: bool = False) -> Verdict:
    if not found.passed:
        return Verdict(_first(found.problems), "The bytes are not what the recipe says")
    if adapter:
        return Verdict(
            f"Made again from the base and compared byte for byte: it changes {found.changed_columns:,} rows and columns of "
            f"{found.edited_tensors} weights, exactly the recipe's."
        )
    return Verdict(
        f"Compared with the base byte for byte: {found.changed_columns:,} rows and columns in "
        f"{found.edited_tensors} tensors changed, exactly the recipe's; the other {found.identical_tensors} tensors "
        "are identical."
    )


def logits_verdict(found: LogitsProof, *, stand_in: bool, adapter: bool = False) -> Verdict:
    what = "The base with the adapter" if adapter else "The checkpoint"
    if not found.passed:
        return Verdict(_first(found.problems), f"{what} does not behave like the hooked base")
    rows = found.by_language.values()
    same = ", with the same stand-in for the constant," if stand_in else ""
    how = (
        f"{'The base with the adapter, added at run time, compared' if adapter else 'Compared'} with the base under forward "
        f"hooks that do the same at run time{same} on "
        f"{sum(row.positions for row in rows):,} positions in {len(rows)} language{'s' * (len(rows) != 1)}: "
    )
    if max((row.max_logit for row in rows), default=0) == 0:
        return Verdict(f"{how}every logit is the same, to the bit.")
    return Verdict(how + _difference(rows))


def cut_verdict(found: Cut) -> Verdict:
    """Say what a highest rank lost."""
    lost = ", ".join(f"{language} {count:,}" for language, count in found.left_out.items() if count)
    return Verdict(
        f"Its rank has a limit, and the neurons that matter least were left out ({lost}). Against the base with all of them "
        f"edited by hooks: {_difference(found.by_language.values())}"
    )


def _first(problems: Sequence[str]) -> str:
    return problems[0] if problems else "No reason is given."


def _difference(rows: Collection[Agreement]) -> str:
    return (
        f"the largest difference of a logit is {small(max(row.max_logit for row in rows))} (logits reach "
        f"{max(row.largest_logit for row in rows):.0f}), mean KL at most {small(max(row.kl for row in rows))} nats, "
        f"the same top token in at least {min(row.same_top for row in rows):.2%}."
    )


def distance(found: Approximation) -> Verdict:
    """How far a checkpoint is from exact constants, or from one with a second table."""
    off = found.activation
    if off is None:
        how = "Against the base with a second table to write with, which one table for both approximates: "
        return Verdict(f"{how}{_difference(found.by_language.values())}")
    how = "Against the base with the exact constants, which the stand-in approximates: "
    return Verdict(
        f"{how}{_difference(found.by_language.values())} The activations themselves are off by {off.all:.1%} in the "
        f"root mean square (worst layer {off.worst_layer:.1%}), on the first token of a text by up to "
        f"{off.first_token:.0%}."
    )


def commit_message(manifest: Manifest) -> str:
    """Say what a commit of a checkpoint is: "google/gemma-3-270m: zh deactivated (monoglot 0.1.0)"."""
    edits = ", ".join(
        [f"{edit.language} {operation(edit)}" for edit in manifest.recipe.edits]
        + [f"{edit.script} {script_operation(edit)}" for edit in manifest.recipe.scripts]
    )
    return f"{manifest.base.model}: {edits} (monoglot {manifest.monoglot})"
