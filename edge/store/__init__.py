"""The store: results as JSON, the journal that keeps them, the one thread that writes it."""
