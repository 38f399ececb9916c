"""Texts to token numbers, and token numbers to texts."""
