"""What a command would read, do and take, said before it does it."""
