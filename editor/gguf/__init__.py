"""GGUF files: edited in place, verified, described, and made from a checkpoint."""
