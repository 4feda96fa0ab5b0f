"""Models that run: loading, hooks, logits, log-loss, generation and chat."""
