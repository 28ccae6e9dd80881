"""Whose words advice uses: inputs of nodes in ComfyUI, options on the command line. The pack of nodes says that it is one."""

_in_nodes = False


def speak_as_nodes() -> None:
    """From now on `advice` gives the nodes' words in this process."""
    global _in_nodes
    _in_nodes = True


def advice(node: str, command: str) -> str:
    """What to do about a fault, in the words of the host that shows it."""
    return node if _in_nodes else command


def set_pairing(ways: str) -> str:
    """Where to choose another of the `ways` to pair images."""
    return advice(f"set pairing to {ways} in Slider Dataset Options", f"give --pairing {ways}")
