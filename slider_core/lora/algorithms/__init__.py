"""One file per algorithm: its formula, its tensors and their shapes, its slices, its trainable form.

In: a layer and AdapterSpec's choice, or the tensors of a file. Out: a LayerWeight, a Trainable for the layer (../algorithm.py).

To add one: a file here with a subclass of LayerWeight, and one line in REGISTRY (../catalog.py), beside the names of the choice
(config/lora.py) and of the kind (Kind in ../algorithm.py). Where LyCORIS has a module for it, LycorisWeight makes its trainable
form. For example

    class DiagonalWeight(LycorisWeight):
        kind = Kind.DIAGONAL
        algorithms = (Algorithm.DIAGONAL,)
        needed = row_tensors = ("diagonal",)
        module_class = "DiagonalModule"

        def expected(self, rows, inner, kernel): ...    # the shape of each tensor on a layer of that shape
        def layer_shape(self): ...                      # and back: the shape of the layer by the tensors
        def update(self, base=None): ...                # the formula
"""
