"""Recipes: from public data to a released bundle, each with one command and a fixed seed."""
