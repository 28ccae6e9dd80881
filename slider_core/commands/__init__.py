"""The commands of `python -m slider_core`: an entrance, which may import everything.

In: the words after the command.
Out: files, and lines for the reader.
"""
