"""The library: finds the feed-forward neurons of a language and edits checkpoints.

It never prints, prompts or parses a command line. Each step is one function, each noun one frozen type and one file:

    text ─► statistics ─► find ─► neurons ─► plan ─► bake ─► checkpoint ─► verify ─► certificate

    from monoglot.editor import bake, find, neurons, recipe, source, statistics, verify
"""
