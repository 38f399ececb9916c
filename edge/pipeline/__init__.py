"""The pure path of one diagnosis: front, preprocess, engine, postprocess, rules, decide."""
