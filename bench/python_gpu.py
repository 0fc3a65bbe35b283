#!/usr/bin/env python3
"""Times the Python package on one GPU: what its users get, beside what the kernels alone take and beside FlexAttention.

    python3 bench/python_gpu.py overhead|start|workloads|sweep|flex|flex_max [--build build] [--out FILE.json]

overhead: host microseconds of a call. start: the first result of a fresh process. workloads: every workload of
gpu_workloads.py through hr.attention and autograd, in turns with bench_gpu. sweep: what changing lengths and windows compiles.
flex, flex_max: sparse workloads in turns with FlexAttention as it comes and with max-autotune. Rows are written as they come.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
from provenance import ROOT, commit


class Results:
    """Rows of one run, written again with each."""

    def __init__(self, path, built):
        self.path = path and pathlib.Path(path)
        self.same = {"commit": built, "date": time.strftime("%Y-%m-%d"), "device": torch.cuda.get_device_name()}
        self.rows = []

    def add(self, **row):
        row = {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}
        self.rows.append({**row, **self.same})
        print(json.dumps(row), flush=True)
        if self.path:
            lines = ",\n".join(" " + json.dumps(each) for each in self.rows)
            self.path.write_text(f"[\n{lines}\n]\n")


def host_us(call, launches=200, rounds=25):
    """Median over rounds of the host's microseconds for one of `launches` calls; nothing is waited for inside."""
    times = []
    for _ in range(rounds + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(launches):
            call()
        times.append((time.perf_counter() - start) / launches * 1e6)
    torch.cuda.synchronize()
    return statistics.median(times[3:])


def overhead(arguments, results):
    import harrier as hr

    def draw(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    window = hr.Pattern(hr.causal & hr.window(64, 0))
    for batch, heads, length in ((1, 2, 128), (1, 12, 512), (8, 12, 512)):
        q, k, v = (draw(batch, heads, length, 64) for _ in range(3))
        ids = (torch.arange(length, device="cuda") // 50)[None].expand(batch, -1).contiguous()
        documents = hr.Pattern(hr.documents(ids))
        lengths = torch.full((batch,), length - 3, device="cuda")
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        d_out = draw(batch, heads, length, 64)
        out = hr.attention(*leaves, window)
        compiled = torch.compile(lambda q, k, v: hr.attention(q, k, v, window), fullgraph=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            hr.attention(q, k, v, window)
        sdpa = torch.nn.functional.scaled_dot_product_attention
        calls = {
            "attention": lambda: hr.attention(q, k, v, window),
            "attention, with lse": lambda: hr.attention(q, k, v, window, return_lse=True),
            "attention, documents of 64 bits": lambda: hr.attention(q, k, v, documents),
            "attention, valid lengths": lambda: hr.attention(q, k, v, window, lengths=lengths),
            "attention, under autograd": lambda: hr.attention(*leaves, window),
            "backward": lambda: torch.autograd.grad(out, leaves, d_out, retain_graph=True),
            "attention, torch.compile": lambda: compiled(q, k, v),
            "graph replay": graph.replay,
            "torch sdpa, causal": lambda: sdpa(q, k, v, is_causal=True),
        }
        for name, call in calls.items():
            try:
                for _ in range(50):
                    call()
                results.add(part="overhead", shape=[batch, heads, length, 64], call=name, host_us=host_us(call))
            except Exception as error:
                results.add(part="overhead", shape=[batch, heads, length, 64], call=name, failed=str(error)[:200])


def workloads(arguments, results):
    import gpu_workloads
    from gpu_peers import median_ms, useful_flops
    from python_cases import compile_all, kernel_program

    wanted = [w for w in gpu_workloads.all_workloads() if not arguments.only or w.name in arguments.only]
    with kernel_program(arguments.build, wanted) as program:
        cases = compile_all(wanted)
        for case in cases:
            case.settle()
            results.add(part="errors", workload=case.workload.name, **case.errors())
        best = {}
        for _ in range(arguments.rounds):
            for case in cases:
                flops = {d: useful_flops(case.workload, d) for d in ("forward", "backward")}
                for direction, call in (("forward", case.forward), ("backward", case.backward)):
                    name = f"{case.workload.name}/{direction}"
                    answer = program.ask(do="time", name=name)
                    times = {"harrier_cpp": answer.get("ms"), "harrier_python": median_ms(call)}
                    for system, ms in times.items():
                        if ms is None:
                            print(f"{name}: bench_gpu says {answer}", flush=True)
                            continue
                        best[name, system] = min(ms, best.get((name, system), ms))
                        results.add(workload=case.workload.name, system=system, direction=direction, ms=ms,
                                    tflops=round(flops[direction] / ms / 1e9, 1))
        for case in cases:
            for direction in ("forward", "backward"):
                name = f"{case.workload.name}/{direction}"
                if (name, "harrier_cpp") in best:
                    ratio = best[name, "harrier_python"] / best[name, "harrier_cpp"]
                    results.add(part="ratio", workload=case.workload.name, direction=direction, python_over_cpp=ratio)


def flex(arguments, results, settings_of):
    """Ours in turns with FlexAttention's settings, {system: setting}; each is compiled once for both directions."""
    import gpu_workloads
    from gpu_peers import flex_both, median_ms, useful_flops
    from python_cases import compile_all

    start = time.perf_counter()
    wanted = [w for w in gpu_workloads.all_workloads() if w.rule is not None and not w.causal]
    wanted = [w for w in wanted if not arguments.only or w.name in arguments.only]
    for case in compile_all(wanted):
        name = case.workload.name
        calls = {("harrier_python", "forward"): case.forward, ("harrier_python", "backward"): case.backward}
        case.settle()
        for system, setting in settings_of(case.workload).items():
            if time.perf_counter() - start > arguments.budget:
                print(f"{name}: no time left for {system}", flush=True)
                continue
            for direction, call in flex_both(case.workload, setting).items():
                calls[system, direction] = call
        for _ in range(arguments.rounds):
            for (system, direction), call in calls.items():
                ms = median_ms(call)
                flops = useful_flops(case.workload, direction)
                results.add(workload=name, system=system, direction=direction, ms=ms, tflops=round(flops / ms / 1e9, 1))


def main():
    parts = ("overhead", "start", "workloads", "sweep", "flex", "flex_max")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", help="workloads")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which flex, flex_max and sweep start nothing new")
    parser.add_argument("--out", help="write the rows to this file")
    parser.add_argument("--commit", default=None, help="what was built, where git is not at hand")
    arguments = parser.parse_args()
    results = Results(arguments.out, arguments.commit or commit())
    if arguments.part == "start":
        from python_start import start

        start(results)
    elif arguments.part == "sweep":
        from python_sweep import sweep

        sweep(results, arguments.budget)
    elif arguments.part in ("flex", "flex_max"):
        from gpu_peers import as_it_comes, with_max_autotune

        flex(arguments, results, as_it_comes if arguments.part == "flex" else with_max_autotune)
    else:
        {"overhead": overhead, "workloads": workloads}[arguments.part](arguments, results)


if __name__ == "__main__":
    sys.exit(main())
