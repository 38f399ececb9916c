"""How well a model diagnoses, and whether a change of it costs anything."""
