"""Images on disk or out of a graph, as buckets of samples with captions, and the pairs between them.

In: folders, a SimpleTuner dataset file, or pixels; the choices about a dataset (bucket_spec.py).
Out: a Dataset, each of its images fitted to a size of the model (fitting.py), and what the pair doctor says of them.
"""
