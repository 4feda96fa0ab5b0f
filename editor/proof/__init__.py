"""The proof that a checkpoint is what its manifest says, in bytes and in logits; and what distinguishes two checkpoints."""
