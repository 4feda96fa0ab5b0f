"""What `monoglot inspect` prints: the facts of each kind of thing, in words."""
