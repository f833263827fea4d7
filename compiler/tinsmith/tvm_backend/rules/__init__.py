"""One module per operator; each defines RULES. Files that start with `_` are shared helpers."""
