"""How much a proof reads by default."""

TOKENS = 512  # of held-out text in a language
CONTEXT = 256  # tokens
