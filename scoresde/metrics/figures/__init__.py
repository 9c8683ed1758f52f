"""Figures of features: a file for each, with its interval."""
