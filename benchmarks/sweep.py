"""Sweeps: efficiency of a Ray cluster against one run after the other, and a simulation of larger clusters.

Measured, with --address: runs of one core each, one after the other on this machine and on the cluster, at a
narrow width; seconds of an empty task; bytes per second from node to node. Two nodes on one machine:

    ray start --head --port=6379 --num-cpus=1 --include-dashboard=false
    ray start --address=127.0.0.1:6379 --num-cpus=1
    python benchmarks/sweep.py --address 127.0.0.1:6379 --nodes 2 --runs 4

Simulated, always: 128 runs of the demo on 1 to 128 nodes, each with a task at a time, from the measured
seconds of its stages and sizes of its files. A node waits for the files that it lacks; a node that has them
sends them to one other at a time. The sweeps: 128 random-seeds; 16 random-seeds with 8 variations each; one
training with 128 variations.
"""

import contextlib
import heapq
import io
import os
import tempfile
from pathlib import Path

import common
import numpy as np

from joanna import cluster, grid, sweep, tree
from joanna.artifacts import STAGES
from joanna.run import PROJECT
from joanna.settings import load
from joanna.source import source_path

NARROW = ["demo", "dim-decrease=480", "ae-epoch=10", "lstm-epoch=10", "preview-minutes=0"]
NODES = 1, 2, 8, 32, 128
# values of the settings
GRIDS: dict[str, dict] = {
    "128 random-seeds": {"random-seed": range(128)},
    "16 random-seeds, 8 variations": {"random-seed": range(16), "variation": np.arange(8) / 10},
    "128 variations": {"variation": np.arange(128) / 200},
}
# of ./run.sh demo on two cores of a fifth-generation EPYC: seconds, and MB that a stage adds
SECONDS = {"autoencoder": 30.0, "lstm": 69.0, "generate": 13.0}
MEGABYTES = {"preprocess": 6.5, "autoencoder": 475.0, "lstm": 723.0}
RESULTS = 9.0  # MB of a run: clips and report


def run_sweep(words: list[str]) -> None:
    """Run a sweep in a temporary folder."""
    source = source_path(PROJECT, load(NARROW)).resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        sweep.run_sweep(grid.read([*NARROW, f"source={source}", *words], Path(folder)))


def measure(address: str, nodes: int, runs: int) -> dict[str, float]:
    """The figures of a cluster."""
    import ray

    seeds = [f"random-seed={[*range(runs)]}".replace(" ", "")]
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    in_turn = common.seconds(run_sweep, seeds)
    cluster.connect(address)
    on_cluster = common.seconds(run_sweep, [*seeds, f"address={address}"])
    empty, size = ray.remote(num_cpus=0)(lambda *_: None), 200_000_000
    ray.get([empty.remote() for _ in range(10)])
    empty_task = common.seconds(lambda: ray.get([empty.remote() for _ in range(200)])) / 200
    own = ray.get_runtime_context().get_node_id()
    (other, *_) = (node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != own)
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(other, soft=False)
    there, data = empty.options(scheduling_strategy=place), ray.put(np.zeros(size, np.uint8))
    sent = common.seconds(lambda: ray.get(there.remote(data)))
    return {
        "one by one, s": in_turn,
        "on the cluster, s": on_cluster,
        "efficiency": in_turn / (nodes * on_cluster),
        "empty task, ms": 1000 * empty_task,
        "transfer, MB/s": size / 1e6 / sent,
    }


class Simulation:
    """Nodes that take tasks in the order in which they are ready; times in seconds, sizes in MB."""

    def __init__(self, nodes: int, megabytes_per_second: float, overhead: float):
        self.free = [0.0] * nodes  # when each node has no task
        self.sending = [0.0] * (nodes + 1)  # until when each node, and the driver, sends
        self.speed, self.overhead = megabytes_per_second, overhead
        self.receiving = 0.0  # until when the driver receives

    def run(self, roots: list[tree.Node]) -> float:
        """Seconds until the driver has the results of all runs."""
        driver, count = len(self.free), len(roots)
        # time, order, node, the nodes that have its files
        ready: list[tuple] = [(0.0, index, node, {driver}) for index, node in enumerate(roots)]
        while ready:
            time, _, node, owners = heapq.heappop(ready)
            # the first node that is free, if possible one that has the files
            place = min(range(driver), key=lambda i: (max(time, self.free[i]), i not in owners))
            start = max(time, self.free[place])
            if place not in owners:
                size = sum(MEGABYTES[stage] for stage in STAGES[: STAGES.index(node.stages[0])])
                source = min(owners, key=self.sending.__getitem__)
                start = max(start, self.sending[source]) + size / self.speed
                self.sending[source] = self.sending[place] = start
                owners.add(place)
            end = self.free[place] = start + self.overhead + sum(SECONDS[stage] for stage in node.stages)
            if not node.children:
                self.receiving = max(self.receiving, end) + RESULTS / self.speed
            shared = {place}
            for child in node.children:
                count += 1
                heapq.heappush(ready, (end, count, child, shared))
        return self.receiving


def main() -> None:
    """Measure and print the tables."""
    options = common.arguments(__doc__, address="", nodes=2, runs=4, speed=110.0, overhead=2.0)
    if options.address:
        common.report([measure(options.address, options.nodes, options.runs)])
    for title, settings in GRIDS.items():
        words = [f"{key}=[{','.join(map(str, values))}]" for key, values in settings.items()]
        roots = tree.plan(list(grid.read(["demo", *words]).points))
        times = [Simulation(nodes, options.speed, options.overhead).run(roots) for nodes in NODES]
        print(f"\n{title}")
        rows = []
        for nodes, seconds in zip(NODES, times, strict=True):
            gain = times[0] / seconds
            rows.append(
                {"nodes": nodes, "minutes": seconds / 60, "speedup": gain, "efficiency": gain / nodes}
            )
        common.report(rows)


if __name__ == "__main__":
    main()
