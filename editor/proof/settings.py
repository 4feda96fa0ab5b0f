"""Defaults of `verify`: how many held-out tokens it reads per language, and how many in one context."""

TOKENS = 512  # of held-out text in a language
CONTEXT = 256  # tokens
