"""Images and prompts as the model takes them: latents and conditioning, kept on disk.

In: a Dataset and a Backend with its encoders.
Out: Samples; a batch of them at its noise levels (Noised); the direction from negative to positive images.
"""
