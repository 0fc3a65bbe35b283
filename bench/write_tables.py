#!/usr/bin/env python3
"""Fills the tables between the `numbers` marks of README.md and bench/README.md from bench/results/*.json."""

import json
import re
import sys

from provenance import ROOT

RESULTS = ROOT / "bench" / "results"


def load(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def source(document):
    return f"{document['device']}, {document['cores']} cores, commit {document['commit']}, {document['date']}"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" + "--:|" * (len(header) - 1)]
    for row in rows:
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines)


def attention_table(document):
    rows = {"Forward": [], "Backward": []}
    for entry in document["benchmarks"]:
        if "share_of_peak" in entry:
            rows["Backward" if entry["name"].startswith("backward/") else "Forward"].append([
                entry["name"].removeprefix("backward/"),
                f"{entry['time_ms']:.2f}",
                f"{entry['useful_GFLOPs']:.0f}",
                f"{100 * entry['share_of_peak']:.0f} %",
                f"{100 * entry['tiles_skipped']:.0f} %",
            ])
    header = ["workload", "ms", "useful GFLOP/s", "of the FMA peak", "tiles skipped"]
    title = f"fp32, against the multiply-adds the same cores can do ({source(document)}):"
    return "\n\n".join(f"{name}, {title}\n\n" + table(header, lines) for name, lines in rows.items() if lines)


def milliseconds_of(result):
    if result is None:
        return ""
    return "refused" if "refused" in result else f"{result['median_ms']:.1f}"


def torch_table(document):
    rows = []
    for name, entry in document["workloads"].items():
        results = entry["results"]
        flex = [r for key, r in results.items() if key.startswith("flex")]
        timed = [r for r in flex if "median_ms" in r]
        best_flex = min(timed, key=lambda r: r["median_ms"]) if timed else (flex[0] if flex else None)
        peers = [r["median_ms"] for key, r in results.items() if key != "harrier" and "median_ms" in r]
        ours = results["harrier"]["median_ms"]
        speedup = f"{min(peers) / ours:.2f}x" if peers else ""
        rows.append([name, f"{ours:.1f}", milliseconds_of(results.get("sdpa")), milliseconds_of(best_flex), speedup])
    header = ["workload, ms a call", "Harrier", "torch sdpa", "torch flex (best block)", "against the best peer"]
    title = f"Beside PyTorch {document['torch']}, {document['threads']} threads ({source(document)}):"
    return f"{title}\n\n" + table(header, rows)


def compile_table(document):
    rows = []
    for entry in document["benchmarks"]:
        milliseconds = entry["time_ms"] if "time_ms" in entry else entry["time_us"] * 1e-3
        rows.append([entry["name"], f"{milliseconds:.3f}"])
    return f"Before a kernel runs ({source(document)}):\n\n" + table(["step", "ms"], rows)


def memory_table(document):
    rows = [
        [e["name"].removeprefix("run_memory/"), f"{e['extra_KiB']:.0f}", f"{e['extra_bytes_a_token']:.1f}"]
        for e in document["benchmarks"]
    ]
    header = ["mask/length", "extra KiB at the peak of a run", "bytes a token"]
    return f"Memory beyond the caller's arrays ({source(document)}):\n\n" + table(header, rows)


def store_table(document):
    rows = []
    for entry in document["benchmarks"]:
        microseconds = entry["time_us"] if "time_us" in entry else entry["time_ns"] * 1e-3
        rows.append([entry["name"], f"{microseconds:.3g}"])
    return f"Remembered kernels, 200 in the cache ({source(document)}):\n\n" + table(["step", "us"], rows)


def cuda_compile_table(document):
    rows = [
        [e["name"].removeprefix("cold_compile/"), f"{e['time_ms']:.0f}", f"{e['kernel_ms']:.0f}", f"{e['builder_ms']:.0f}"]
        for e in document["benchmarks"]
    ]
    header = ["pattern/architecture", "ms, text to machine code", "of them the kernel", "beside it, list builders"]
    return f"CUDA kernels past every cache ({source(document)}):\n\n" + table(header, rows)


GPU_SYSTEMS = {
    "harrier": "Harrier, tuned",
    "harrier_default": "Harrier",
    "cudnn": "cuDNN",
    "flex": "Flex",
    "flex_pinned": "Flex, 64-token blocks",
    "flash2_varlen_dense": "FlashAttention-2, dense",
}


def direction_table(rows, direction, command):
    """Each system's rounds of one run, as mean TFLOP/s (or microseconds where flops say nothing)."""
    systems = [system for system in GPU_SYSTEMS if any(row["system"] == system for row in rows)]
    lines = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        cells = [workload]
        for system in systems:
            mine = [row for row in rows if row["workload"] == workload and row["system"] == system]
            if not mine:
                cells.append("")
            elif mine[0]["tflops"]:
                cells.append(f"{sum(row['tflops'] for row in mine) / len(mine):.0f}")
            else:
                cells.append(f"{1e3 * sum(row['ms'] for row in mine) / len(mine):.0f} us")
        lines.append(cells)
    first = rows[0]
    title = (
        f"CUDA {direction}, bf16, useful TFLOP/s, each system's rounds of one run averaged ({first['device']}, "
        f"commit {first['commit']}, {first['date']}; `{command}`):"
    )
    return f"{title}\n\n" + table(["workload"] + [GPU_SYSTEMS[system] for system in systems], lines)


def gpu_table(rows):
    commands = {"forward": "python3 bench/gpu.py --tune", "backward": "python3 bench/gpu.py --direction backward --tune"}
    tables = []
    for direction, command in commands.items():
        mine = [row for row in rows if row["direction"] == direction]
        if mine:
            tables.append(direction_table(mine, direction, command))
    return "\n\n".join(tables)


def fill(path, tables):
    text = path.read_text()
    marked = re.compile(r"(<!-- numbers: begin -->\n).*?(<!-- numbers: end -->)", re.DOTALL)
    if not marked.search(text):
        sys.exit(f"bench/write_tables.py: {path.name} has no 'numbers' marks to write between")
    body = "\n\n".join(tables) if tables else "Nothing was measured yet: run `scripts/bench --torch`."
    path.write_text(marked.sub(lambda match: f"{match[1]}\n{body}\n\n{match[2]}", text))


def main():
    if len(sys.argv) > 1:
        sys.exit(f"usage: bench/write_tables.py\n\n{__doc__}")
    makers = {"attention": attention_table, "cpu": torch_table, "compile": compile_table, "memory": memory_table,
              "store": store_table, "cuda_compile": cuda_compile_table, "h100": gpu_table}
    documents = {name: load(name) for name in makers}
    tables = {name: makers[name](document) for name, document in documents.items() if document}
    fill(ROOT / "README.md", [tables[name] for name in ("h100", "attention", "cpu") if name in tables])
    fill(ROOT / "bench" / "README.md", list(tables.values()))


if __name__ == "__main__":
    main()
