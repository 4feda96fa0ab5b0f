"""From statistics to neurons: which neurons belong to which language."""
