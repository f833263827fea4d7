"""Boards of a laboratory: written to, shared, measured as a matrix of models and boards."""
