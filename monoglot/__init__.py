"""Make a language model speak a language, or lose one, and get an ordinary safetensors checkpoint."""
