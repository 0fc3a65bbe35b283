#!/usr/bin/env python3
"""Times Harrier's CUDA kernels and their peers on one GPU, in turns in one run.

    python3 bench/gpu.py [--build build] [--only NAME ...] [--rounds 2] [--peers cudnn,flex,flex_pinned] [--out FILE.json]

Needs PyTorch for the peers. Ours is the program bench_gpu, which this script asks line by line; both sides time single
launches with events, a cold L2 before each, and take the median. Every workload's output is compared with float64 on 256
queries of one head before its times count.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

import gpu_workloads
import torch
from gpu_harrier import Harrier
from provenance import ROOT, commit
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from triton.testing import do_bench

torch._dynamo.config.cache_size_limit = 1000
# FlexAttention's settings for 64-token blocks; the faster one counts.
FLEX_64 = [dict(BLOCK_M=64, BLOCK_N=64, num_warps=4, num_stages=stages) for stages in (3, 2)]
SHORT = "short_batch_d64"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers", default="cudnn,flex,flex_pinned")
    parser.add_argument("--tune", action="store_true", help="tune first: rows of system harrier")
    parser.add_argument("--effort", choices=("quick", "full"), default="quick", help="of --tune: full tries every plan")
    parser.add_argument("--cold", action="store_true", help="measure cold compiles too")
    parser.add_argument("--out", help="write the results to this file")
    parser.add_argument("--commit", default=None, help="what was built, where git is not at hand")
    return parser.parse_args()


def write_arrays(workload, folder):
    arrays = {}
    for name, tensor in (workload.arrays() if workload.arrays else {}).items():
        tensor = tensor.to(torch.int32).contiguous()
        path = pathlib.Path(folder) / f"{workload.name}.{name}.bin"
        path.write_bytes(tensor.numpy().tobytes())
        arrays[name] = {"file": str(path), "type": "int32", "shape": list(tensor.shape)}
    return arrays


def error_of(harrier, workload, folder):
    """Relative norm of the error of 256 queries of the last head and batch row, against float64."""
    head, batch = workload.q_heads - 1, workload.batch - 1
    answer = harrier.ask(do="sample", name=workload.name, head=head, batch=batch, folder=str(folder))
    if "error" in answer:
        return answer["error"]

    def read(name):
        raw = (pathlib.Path(folder) / f"{name}.bin").read_bytes()
        return torch.frombuffer(bytearray(raw), dtype=torch.bfloat16).cuda().view(-1, workload.head_dim)

    q, k, v, out = (read(name) for name in ("q", "k", "v", "out"))
    queries = torch.randperm(workload.length, device="cuda")[:256]
    queries[0], queries[1] = 0, workload.length - 1
    scores = (q[queries].double() @ k.double().t()) * workload.head_dim**-0.5
    if workload.rule is not None:
        keys = torch.arange(workload.length, device="cuda")[None]
        scores.masked_fill_(~workload.rule(batch, head, queries[:, None], keys), -float("inf"))
    expected = scores.softmax(-1) @ v.double()
    return ((out[queries].double() - expected).norm() / expected.norm()).item()


def tensors(workload):
    shape = lambda heads: (workload.batch, heads, workload.length, workload.head_dim)
    make = lambda heads: torch.randn(shape(heads), device="cuda", dtype=torch.bfloat16)
    return make(workload.q_heads), make(workload.kv_heads), make(workload.kv_heads)


def peer_call(workload, peer):
    """A function that runs the peer once, or None where it cannot."""
    q, k, v = tensors(workload)
    gqa = workload.q_heads != workload.kv_heads
    if peer == "cudnn":
        if workload.rule is not None and not workload.causal:
            return None

        def call():
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=workload.causal, enable_gqa=gqa)

        return call
    if workload.rule is None or workload.causal:
        return None
    small = workload.name.split("_")[0] in ("longformer", "bigbird", "block64")
    if small != (peer == "flex_pinned"):
        return None  # each sparse workload against the setting that is fair to FlexAttention
    torch._dynamo.reset()
    block = 64 if peer == "flex_pinned" else 128
    mask = torch.compile(create_block_mask)(
        workload.rule, None, None, workload.length, workload.length, device="cuda", BLOCK_SIZE=block)
    best = None
    for options in FLEX_64 if peer == "flex_pinned" else [None]:
        compiled = torch.compile(flex_attention, dynamic=False)
        call = lambda compiled=compiled, options=options: compiled(q, k, v, block_mask=mask, kernel_options=options)
        with torch.no_grad():
            ms = do_bench(call, warmup=5, rep=20, return_mode="median")
        if best is None or ms < best[0]:
            best = (ms, call)
    return best[1]


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
        rows.append({"workload": workload, "system": system, "direction": "forward", "ms": round(ms, 4),
                     "tflops": tflops and round(tflops, 1), "commit": built, "date": today})
        print(f"{workload:26}{system:14}{ms:9.3f} ms{tflops or 0:8.0f} TFLOP/s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for workload in wanted:
            harrier.ask(do="add", name=workload.name, text=workload.text(), batch=workload.batch, length=workload.length,
                        arrays=write_arrays(workload, folder))
        flash = short_batch(harrier)
        start = time.time()
        for answer in harrier.ask(do="prepare"):
            print(json.dumps(answer), flush=True)
        print(f"prepared in {time.time() - start:.1f} s", flush=True)
        flops = {}
        for workload in wanted:
            flops[workload.name] = 4 * gpu_workloads.nnz(workload) * workload.head_dim * workload.q_heads * workload.batch
            print(f"{workload.name:26}error {error_of(harrier, workload, folder)}", flush=True)
        if arguments.tune:
            start = time.time()
            for answer in harrier.ask(do="tune", name="", full=arguments.effort == "full"):
                print(json.dumps(answer), flush=True)
            print(f"tuned in {time.time() - start:.1f} s", flush=True)
        calls = {}
        for round_index in range(arguments.rounds):
            print(f"round {round_index + 1} of {arguments.rounds}", flush=True)
            for workload in wanted:
                for system in ("harrier_default", "harrier") if arguments.tune else ("harrier_default",):
                    answer = harrier.ask(do="time", name=workload.name, tuned=system == "harrier")
                    if "ms" in answer:
                        record(workload.name, system, answer["ms"], flops[workload.name])
                for peer in arguments.peers.split(","):
                    try:
                        if (workload.name, peer) not in calls:
                            calls[workload.name, peer] = peer_call(workload, peer)
                        call = calls[workload.name, peer]
                        if call is not None:
                            with torch.no_grad():
                                ms = do_bench(call, warmup=30, rep=120, return_mode="median")
                            record(workload.name, peer, ms, flops[workload.name])
                    except Exception as error:  # a peer that fails is a result too
                        print(f"{workload.name:26}{peer:14}failed: {str(error)[:120]!r}", flush=True)
            answer = harrier.ask(do="time", name=SHORT)
            if "ms" in answer:
                record(SHORT, "harrier_default", answer["ms"], 0)
            try:
                record(SHORT, "flash2_varlen_dense", do_bench(flash, warmup=30, rep=120, return_mode="median"), 0)
            except Exception as error:
                print("flash2 failed:", str(error)[:200], flush=True)
        for name in [SHORT] + [w.name for w in wanted[:1]]:
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
