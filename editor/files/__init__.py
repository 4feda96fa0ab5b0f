"""Files as bytes: checkpoints, GGUF files, JSON texts, and output that is whole or absent. Nothing here knows a model."""
