"""Bytes to the pixels that the network sees."""
