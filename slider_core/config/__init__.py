"""Every choice as a frozen dataclass or an Enum, checked when it is made.

In: what a user chose: widgets, options, JSON.
Out: specs (AdapterSpec, TrainSpec, SweepSpec) that can be relied on, or a SliderError that names the value and the fix.
"""
