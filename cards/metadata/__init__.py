"""A card's metadata: what the Hub reads of it, checked without the Hub."""
