#!/usr/bin/env python3
"""Times Harrier's CUDA kernels and their peers on one GPU, in turns in one run.

    python3 bench/gpu.py [--build build] [--only NAME ...] [--rounds 2] [--peers cudnn,flex,flex_pinned] [--out FILE.json]

Needs PyTorch for the peers. Ours is the program bench_gpu, which this script asks line by line; both sides time single
launches with events, a cold L2 before each, and take the median. Every workload's results are compared with float64 on
one head before its times count. With --direction backward, times are those of gradients of q, k and v alone.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

import gpu_workloads
import torch
from gpu_errors import error_of
from gpu_harrier import Harrier
from gpu_peers import median_ms, peer_call, useful_flops
from provenance import ROOT, commit

SHORT = "short_batch_d64"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--direction", choices=("forward", "backward"), default="forward")
    parser.add_argument("--deterministic", action="store_true",
                        help="of gradients: rows of system harrier_deterministic, in turns with the default's")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers", default="cudnn,flex,flex_pinned")
    parser.add_argument("--tune", action="store_true", help="tune first: rows of system harrier")
    parser.add_argument("--effort", choices=("quick", "full"), default="quick", help="of --tune: full tries every plan")
    parser.add_argument("--cold", action="store_true", help="measure cold compiles too")
    parser.add_argument("--out", help="write the results to this file")
    parser.add_argument("--commit", default=None, help="what was built, where git is not at hand")
    arguments = parser.parse_args()
    if arguments.deterministic and arguments.direction == "forward":
        parser.error("--deterministic is for gradients: add --direction backward")
    return arguments


def deterministic(workload):
    """By what name bench_gpu knows the workload with deterministic gradients."""
    return workload.name + "/deterministic"


def write_arrays(workload, folder):
    arrays = {}
    for name, tensor in (workload.arrays() if workload.arrays else {}).items():
        tensor = tensor.to(torch.int32).contiguous()
        path = pathlib.Path(folder) / f"{workload.name}.{name}.bin"
        path.write_bytes(tensor.numpy().tobytes())
        arrays[name] = {"file": str(path), "type": "int32", "shape": list(tensor.shape)}
    return arrays


def short_lengths():
    generator = torch.Generator().manual_seed(5)
    return torch.randint(16, 513, (32,), generator=generator).tolist()


def short_batch(harrier):
    """32 sequences of 16 to 512 tokens: ours with a window of 128 against FlashAttention-2's packed dense kernel."""
    lengths = short_lengths()
    text = "attention short {\n  heads 12  head_dim 64  dtype bf16\n  mask window(128, 128)\n}\n"
    harrier.ask(do="add", name=SHORT, text=text, lengths=lengths)
    tokens = sum(lengths)
    q, k, v = (torch.randn(tokens, 12, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    offsets = torch.tensor([0] + lengths, device="cuda").cumsum(0).to(torch.int32)

    def flash():
        return torch.ops.aten._flash_attention_forward(
            q, k, v, offsets, offsets, max(lengths), max(lengths), 0.0, False, False)

    return flash


def main():
    arguments = parse_arguments()
    wanted = [w for w in gpu_workloads.all_workloads() if not arguments.only or w.name in arguments.only]
    harrier = Harrier(arguments.build.resolve())
    print(harrier.device, "torch", torch.__version__, flush=True)
    rows = []
    today = time.strftime("%Y-%m-%d")
    built = arguments.commit or commit()

    def record(workload, system, ms, flops):
        tflops = flops / ms / 1e9 if flops else None
        rows.append({"workload": workload, "system": system, "direction": arguments.direction, "ms": round(ms, 4),
                     "tflops": tflops and round(tflops, 1), "commit": built, "date": today})
        print(f"{workload:26}{system:14}{ms:9.3f} ms{tflops or 0:8.0f} TFLOP/s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for workload in wanted:
            texts = {workload.name: workload.text(arguments.direction)}
            if arguments.deterministic:
                texts[deterministic(workload)] = workload.text("backward deterministic")
            for name, text in texts.items():
                harrier.ask(do="add", name=name, text=text, batch=workload.batch, length=workload.length,
                            arrays=write_arrays(workload, folder))
        flash = short_batch(harrier) if arguments.direction == "forward" else None
        start = time.time()
        for answer in harrier.ask(do="prepare"):
            print(json.dumps(answer), flush=True)
        print(f"prepared in {time.time() - start:.1f} s", flush=True)
        flops = {}
        for workload in wanted:
            flops[workload.name] = useful_flops(workload, arguments.direction)
            print(f"{workload.name:26}error {error_of(harrier, workload, folder, arguments.direction)}", flush=True)
        if arguments.tune:
            start = time.time()
            for answer in harrier.ask(do="tune", name="", full=arguments.effort == "full"):
                print(json.dumps(answer), flush=True)
            print(f"tuned in {time.time() - start:.1f} s", flush=True)
        calls = {}
        for round_index in range(arguments.rounds):
            print(f"round {round_index + 1} of {arguments.rounds}", flush=True)
            for workload in wanted:
                systems = {"harrier_default": workload.name}
                if arguments.tune:
                    systems["harrier"] = workload.name
                if arguments.deterministic:
                    systems["harrier_deterministic"] = deterministic(workload)
                for system, name in systems.items():
                    answer = harrier.ask(do="time", name=name, tuned=system == "harrier")
                    if "ms" in answer:
                        record(workload.name, system, answer["ms"], flops[workload.name])
                for peer in arguments.peers.split(","):
                    try:
                        if (workload.name, peer) not in calls:
                            calls[workload.name, peer] = peer_call(workload, peer, arguments.direction)
                        call = calls[workload.name, peer]
                        if call is not None:
                            record(workload.name, peer, median_ms(call), flops[workload.name])
                    except Exception as error:  # a peer that fails is a result too
                        print(f"{workload.name:26}{peer:14}failed: {str(error)[:120]!r}", flush=True)
            if flash is None:
                continue
            answer = harrier.ask(do="time", name=SHORT)
            if "ms" in answer:
                record(SHORT, "harrier_default", answer["ms"], 0)
            try:
                record(SHORT, "flash2_varlen_dense", median_ms(flash), 0)
            except Exception as error:
                print("flash2 failed:", str(error)[:200], flush=True)
        for name in ([SHORT] if flash else []) + [w.name for w in wanted[:1]]:
            print("host time of a launch", harrier.ask(do="launch", name=name), flush=True)
        if arguments.cold:
            for workload in wanted:
                print("cold compile", harrier.ask(do="cold", name=workload.name), flush=True)
    if arguments.out:
        for row in rows:
            row["device"] = harrier.device["device"]
        lines = ",\n".join(" " + json.dumps(row) for row in rows)
        pathlib.Path(arguments.out).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    sys.exit(main())
