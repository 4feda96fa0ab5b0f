"""The commands, one file each. None imports another."""
