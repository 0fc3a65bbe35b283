#!/usr/bin/env python3
"""How far skewed work is from perfect balance on one GPU: each case beside even work of the same kind, in turns.

    python3 bench/balance.py [--build build] [--rounds 5]

A perfectly balanced launch would take as long as the even one, times the ratio of the work: visible pairs of causal
documents, key tiles of 64 x 64 where one row of queries sees everything.
"""

import argparse
import pathlib
import statistics

from gpu_harrier import Harrier
from provenance import ROOT

HEAD = "attention {}\n{{\n  heads {}  head_dim {}  dtype bf16\n  mask {}\n}}\n"
TOKENS = 65536
WINDOW = 256
# name, even work, skewed work, ratio of the work
DOCUMENTS = [16 << i for i in range(12)]
CASES = [
    ("causal sequences of 16 to 32768 tokens in one batch, beside one of 32768",
     dict(text=HEAD.format("even", 16, 128, "causal"), lengths=[32768]),
     dict(text=HEAD.format("skewed", 16, 128, "causal"), lengths=DOCUMENTS),
     sum(n * (n + 1) for n in DOCUMENTS) / (32768 * 32769)),
    ("one global query among windows of 512 at 64k tokens, beside the windows alone",
     dict(text=HEAD.format("even", 4, 64, f"window({WINDOW}, {WINDOW})"), lengths=[TOKENS]),
     dict(text=HEAD.format("skewed", 4, 64, f"window({WINDOW}, {WINDOW}) | global(1, queries)"), lengths=[TOKENS]),
     1 + (TOKENS / 64 - WINDOW / 64 - 1) / ((2 * WINDOW / 64 + 1) * TOKENS / 64 - (WINDOW / 64) * (WINDOW / 64 + 1))),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    harrier = Harrier(arguments.build.resolve())
    print(harrier.device, flush=True)
    for index, (_, even, skewed, _) in enumerate(CASES):
        harrier.ask(do="add", name=f"even{index}", **even)
        harrier.ask(do="add", name=f"skewed{index}", **skewed)
    for answer in harrier.ask(do="prepare"):
        print(answer, flush=True)
    for index, (name, _, _, work) in enumerate(CASES):
        ms = {kind: [] for kind in ("even", "skewed")}
        for _ in range(arguments.rounds):
            for kind, times in ms.items():
                times.append(harrier.ask(do="time", name=f"{kind}{index}")["ms"])
        even, skewed = (statistics.median(times) for times in ms.values())
        print(f"{name}: {skewed:.3f} ms where {even:.3f} x {work:.3f} = {even * work:.3f} would be perfect balance: "
              f"{100 * (skewed / (even * work) - 1):+.0f} %", flush=True)


if __name__ == "__main__":
    main()
