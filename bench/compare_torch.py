#!/usr/bin/env python3
"""Times Harrier beside PyTorch's CPU attention in one run and writes bench/results/cpu.json.

Peers: scaled_dot_product_attention (with a boolean mask where the workload is sparse) and flex_attention through
torch.compile, with its default block mask and, where the pattern's blocks are smaller, with theirs. All get the same
arrays and the same number of threads; rounds take turns, so that a machine that slows down slows everybody. Every
result is compared with scaled_dot_product_attention in double precision.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch
import torch.nn.functional as functional
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from provenance import ROOT, provenance
from torch_workloads import all_workloads, dense_mask, visible_pairs


def parse_arguments():
    parser = argparse.ArgumentParser(prog="bench/compare_torch.py", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="workloads to run (default: all)")
    parser.add_argument("--harrier", default=ROOT / "build" / "harrier", type=pathlib.Path)
    parser.add_argument("--threads", default=len(os.sched_getaffinity(0)), type=int)
    parser.add_argument("--rounds", default=3, type=int, help="turns that each competitor takes")
    parser.add_argument("--seconds", default=1.0, type=float, help="time to spend in each turn, at least one call")
    parser.add_argument("--no-flex", action="store_true", help="leave flex_attention out (it compiles for a while)")
    parser.add_argument("--output", default=ROOT / "bench" / "results" / "cpu.json", type=pathlib.Path)
    return parser.parse_args()


def timed_turn(function, seconds):
    """Milliseconds of each call made in about `seconds`."""
    times = []
    while not times or sum(times) < seconds * 1e3:
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return times


class Harrier:
    """The command line on files, because that is what is shipped. Its own clock excludes reading and writing them."""

    def __init__(self, arguments, workload, tensors, folder):
        self.output = folder / "out.npy"
        self.command = [arguments.harrier, "run", ROOT / "bench" / "workloads" / f"{workload.name}.attn", "--json"]
        self.command += ["--threads", str(arguments.threads)]
        for name, tensor in zip("qkv", tensors):
            numpy.save(folder / f"{name}.npy", tensor.numpy())
            self.command += [f"--{name}", folder / f"{name}.npy"]
        for name, array in workload.arrays.items():
            numpy.save(folder / f"{name}.npy", array)
            self.command += ["--bind", f"{name}={folder / name}.npy"]

    def run(self, repeat, write=False):
        command = [*self.command, "--repeat", str(repeat)] + (["--out", self.output] if write else [])
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            sys.exit(f"harrier failed: {result.stderr.strip()}")
        return json.loads(result.stdout)

    def turn(self, seconds):
        once = self.run(1)["run_us"] * 1e-6
        repeats = self.run(max(4, int(seconds / once)))["repeats_us"]
        return [microseconds * 1e-3 for microseconds in repeats[1:]]  # the first one of a process warms it up

    def result(self):
        self.run(1, write=True)
        return torch.from_numpy(numpy.load(self.output))


def max_error(actual, expected):
    return float(((actual.double() - expected).abs() / expected.abs().clamp(min=1)).max())


def reference_in_double(tensors, mask):
    """One head at a time, 1024 queries at a time: the whole score matrix need not fit in memory."""
    q, k, v = (tensor.double() for tensor in tensors)
    out = torch.empty_like(q)
    length = q.shape[2]
    for head in range(q.shape[1]):
        for begin in range(0, length, 1024):
            end = min(begin + 1024, length)
            rows = None if mask is None else mask[:, head % mask.shape[1], begin:end]
            out[:, head, begin:end] = functional.scaled_dot_product_attention(
                q[:, head, begin:end], k[:, head], v[:, head], attn_mask=rows
            )
    return out


def competitors(arguments, workload, tensors, mask, folder):
    """Name -> (turn(seconds) -> milliseconds, result() -> tensor)."""
    q, k, v = tensors
    harrier = Harrier(arguments, workload, tensors, folder)
    found = {"harrier": (harrier.turn, harrier.result)}

    def add(name, function):
        found[name] = (lambda seconds: timed_turn(function, seconds), function)

    if workload.is_sparse:
        add("sdpa", lambda: functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    else:
        add("sdpa", lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=workload.causal))
    if not arguments.no_flex:
        flex = torch.compile(flex_attention)
        for block in sorted({128, workload.block}):
            blocks = None
            if workload.rule is not None:
                heads = workload.heads if workload.per_head else None
                blocks = create_block_mask(
                    workload.rule, None, heads, workload.length, workload.length, device="cpu", BLOCK_SIZE=block
                )
            add(f"flex_{block}", lambda blocks=blocks: flex(q, k, v, block_mask=blocks))
    return found


def compare(arguments, workload):
    generator = torch.Generator().manual_seed(20)
    shape = (1, workload.heads, workload.length, workload.head_dim)
    tensors = [torch.randn(shape, generator=generator) for _ in range(3)]
    mask = None if workload.rule is None else dense_mask(workload)
    flops = 4.0 * workload.head_dim * visible_pairs(workload, mask)
    expected = reference_in_double(tensors, mask)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        found = competitors(arguments, workload, tensors, mask, pathlib.Path(folder))
        for name in list(found):
            try:
                results[name] = {"error": max_error(found[name][1](), expected)}  # this call also warms up
            except Exception as error:  # pylint: disable=broad-except
                if name == "harrier":
                    raise
                results[name] = {"refused": str(error).splitlines()[0][:200]}
                del found[name]
        times = {name: [] for name in found}
        for _ in range(arguments.rounds):
            for name, (turn, _) in found.items():
                times[name] += turn(arguments.seconds)
    for name, milliseconds in times.items():
        median = statistics.median(milliseconds)
        results[name].update(median_ms=median, useful_gflops=flops / median * 1e-6)
    return {"useful_gflop": flops * 1e-9, "results": results}


def print_row(name, entry):
    cells = []
    for competitor, result in entry["results"].items():
        if "refused" in result:
            cells.append(f"{competitor}: refused ({result['refused']})")
        else:
            cells.append(
                f"{competitor}: {result['median_ms']:.2f} ms, {result['useful_gflops']:.1f} GFLOP/s, "
                f"error {result['error']:.1e}"
            )
    print(f"{name}\n  " + "\n  ".join(cells), flush=True)


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    entries = {}
    with torch.no_grad():
        for workload in all_workloads():
            if arguments.names and workload.name not in arguments.names:
                continue
            entries[workload.name] = compare(arguments, workload)
            print_row(workload.name, entries[workload.name])
    document = {**provenance(), "threads": arguments.threads, "torch": torch.__version__, "workloads": entries}
    arguments.output.write_text(json.dumps(document, indent=2) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
