"""Text in many languages: corpora, tokens, prompts, and which language a text is in."""
