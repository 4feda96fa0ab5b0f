"""What several commands do: a library call with a progress bar, notes and tables."""
