"""The same map in other ways: how many times longer each takes than this package, in turns.

    python benchmarks/peers.py [--only ROW ...] [--rounds 7] [--again]
    python benchmarks/peers.py --list

VGG16 on 512 x 512 pixels (random weights), and the chess network on 398 x 398, which are 88 x 88 windows exactly. All
peers have the same weights and the same image, and a peer's map is compared with ours. Those that cut windows run a
sample at the best of a few batch sizes, scaled to all. MONAI and torch need `pip install '.[bench]'`, ONNX Runtime
`'.[export]'`. Writes results/peers.json and, from it, docs/speed.md.
"""

from __future__ import annotations

from typing import Any

from measuring.duels import against_peer
from measuring.running import options_of, run
from measuring.speed_page import write

SIZES = {"VGG16": 512, "chess": 398}
PEERS = {
    "windows, same engine": ("openvino", "windows on the engine"),
    "windows, predict, jax": ("jax", "windows by predict"),
    "windows, predict, torch": ("torch", "windows by predict"),
    "windows, predict, tensorflow": ("tensorflow", "windows by predict"),
    "windows, MONAI": ("torch", "MONAI"),
    "known answer, jax": ("jax", "known answer"),
    "known answer, torch": ("torch", "known answer"),
    "known answer, tensorflow": ("tensorflow", "known answer"),
    "our network, jax": ("jax", "our network"),
    "our network, torch": ("torch", "our network"),
    "our network, tensorflow": ("tensorflow", "our network"),
    "PyTorch": ("torch", "torch"),
    "ONNX Runtime": ("torch", "ONNX Runtime"),
}
ROWS = {f"{net}: {peer}": {} for net in SIZES for peer in PEERS}


def main() -> None:
    """Measure what is asked for, and write the page."""
    run(__file__, options_of(__doc__.splitlines()[0]), ROWS, measure, write)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One row."""
    net, _, peer = name.partition(": ")
    return {"net": net, "size": SIZES[net], "peer": peer, **against_peer(net, SIZES[net], *PEERS[peer], rounds)}


if __name__ == "__main__":
    main()
