"""From a model and text to statistics: how each neuron responds to each language."""
