"""A slider's weights: the mathematics of each algorithm, live on a model and serialized in files.

In: Targets and an AdapterSpec, or a file of any program.
Out: an Adapter that acts with a strength per sample; a Slider that is saved and loaded.
"""
