"""The first result of a fresh process through the Python package: with empty caches, then with what that left there."""

import json
import os
import subprocess
import sys
import tempfile

PROGRAM = """
import json, sys, time
import torch
import harrier as hr
import gpu_workloads
name, direction = sys.argv[1:]
workload = next(w for w in gpu_workloads.all_workloads() if w.name == name)
arrays = {n: x.to(torch.int32).cuda() for n, x in (workload.arrays() if workload.arrays else {}).items()}
shape = (workload.batch, workload.q_heads, workload.length, workload.head_dim)
q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16).requires_grad_(direction == "backward") for _ in range(3))
torch.cuda.synchronize()
start = time.perf_counter()
pattern = hr.Pattern(hr.parse_mask(workload.pattern.removeprefix("mask "))).bind(**arrays)
out = hr.attention(q, k, v, pattern)
torch.cuda.synchronize()
seconds = time.perf_counter() - start
if direction == "backward":
    start = time.perf_counter()
    torch.autograd.grad(out, (q, k, v), out.detach())
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
print(json.dumps(seconds))
"""

CASES = (
    ("sliding1k_32k_d128", "forward"),
    ("bigbird_4k_d64", "forward"),
    ("longformer_4k_d64", "forward"),
    ("longformer_4k_d64", "backward"),
)


def start(results):
    here = os.path.dirname(os.path.abspath(__file__))
    for name, direction in CASES:
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ,
                "HOME": folder,
                "CUDA_CACHE_PATH": os.path.join(folder, "nv"),
                "HARRIER_CACHE_DIR": os.path.join(folder, "harrier"),
                "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
            }
            for caches in ("empty", "warm"):
                done = subprocess.run([sys.executable, "-c", PROGRAM, name, direction], env=environment, text=True,
                                      capture_output=True, timeout=60)
                if done.returncode != 0:
                    results.add(part="start", workload=name, direction=direction, caches=caches, failed=done.stderr[-300:])
                    continue
                results.add(part="start", workload=name, direction=direction, caches=caches,
                            seconds=float(json.loads(done.stdout.splitlines()[-1])))
