"""The model card: a template, and what fills it."""
