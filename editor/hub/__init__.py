"""The Hugging Face Hub: what would go there, what is there, and publishing."""
