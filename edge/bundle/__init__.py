"""Bundles: what a model promises, how that is checked, and which backend it is admitted on."""
