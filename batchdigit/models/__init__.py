"""The network, and how checked model files become its weights."""
