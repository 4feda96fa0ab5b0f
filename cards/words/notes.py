"""How each kind of edit was made in the weights and how sure it is, in words, from the manifest."""

from ...editor.edits.manifest import Manifest
from ...editor.edits.recipe import EMBEDDING
from ...editor.edits.script_edit import SILENCE, less_likely
from ...editor.text import languages
from ...editor.text.token_sets import SETS
from .foreign import code
from .wording import experts_named, tokens_of


def weights_note(manifest: Manifest) -> str:
    total = manifest.base.neurons or manifest.base.layers * manifest.base.width
    edited = [f"{manifest.neurons_edited:,} of {total:,} feed-forward neurons"] * bool(manifest.neurons_edited)
    at_embedding = any(edit.point == EMBEDDING for edit in manifest.recipe.vectors)
    edited += ["rows of the embedding table"] * bool(manifest.redirected or at_embedding)
    edited += ["the routers' biases of " + experts_named(manifest)] * bool(manifest.experts)
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
        if script not in SETS
    ]
    less = [
        f"{tokens_of(edit.script)} are {less_likely(edit.nats)} ({manifest.silenced[edit.script].tokens:,} tokens)"
        for edit in manifest.recipe.scripts
        if edit.script in SETS
    ]
    said = f"Tokens are found by the bytes that they write. {'. '.join(parts)}. " if parts else ""
    said += f"{less[0][0].upper()}{'; '.join(less)[1:]}. " if less else ""
    said += "`silence.monoglot` lists them."
    if floor is None:
        said += " The output layer has a bias, which holds them down exactly, in every runtime that loads it."
    elif all(edit.op != SILENCE for edit in manifest.recipe.scripts):
        said += (
            " From the output row of each, that many times w is taken, w a direction of the final hidden state h. "
            f"w·h was {floor.mean:.2f} ± {floor.deviation:.2f} on {floor.unseen:,} positions of text that it was not fitted "
            "to, so a nat is one, by so much more or less."
        )
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
