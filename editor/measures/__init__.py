"""What a steered model does: languages of its answers, their quality, and effects on every language's text."""
