"""What a step asks of the slider: batches, noise, training targets, loss.

In: Samples, a TrainSpec, a step number.
Out: a loss per sample, differentiable in the slider's parameters.
"""
