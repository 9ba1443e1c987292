"""Runs as tasks on a Ray cluster. The only module that imports Ray, and only for a cluster."""

from collections.abc import Iterator

from joanna.errors import UserError
from joanna.run import Run
from joanna.tree import Node


def connect(address: str) -> None:
    """Connect to the cluster at `address`."""
    raise UserError(f"address is '{address}'; a cluster cannot be used yet")


def run_on_cluster(nodes: list[Node], finished: set[Run], options: dict) -> Iterator[tuple[Run, str]]:
    """Run a tree of stages on the cluster."""
    yield from ()
