"""What tests share: tiny models, a Hub on this machine, measured figures, stand-ins for runtimes."""
