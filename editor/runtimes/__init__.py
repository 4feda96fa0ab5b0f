"""Runtimes: which there are, what each honours of a checkpoint, and running one beside transformers to see."""
