"""The sentences, tables and sections of a card."""
