"""The rules, one module for a family of operators; the folder is scanned."""
