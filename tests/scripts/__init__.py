"""Programs that the Makefile runs: real models, other runtimes, distributions, generated pages."""
