"""File formats: a file for each, with its names for layers and tensors, and one list of them in registry.py.

In: weights by target. Out: tensors by key, as the program that reads the format expects them.
"""
