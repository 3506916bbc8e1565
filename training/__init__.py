"""Recipes that make the models of the package; nothing here is installed."""
