"""A training from the first step to the last, kept on disk, measured and calibrated.

In: an Adapter, Samples, a TrainSpec, a Backend.
Out: a run that can be stopped and continued bit for bit, with its progress, verdict and calibration.
"""
