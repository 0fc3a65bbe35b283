#!/usr/bin/env python3
"""Runs the C++ benchmarks and writes what they measured to bench/results/NAME.json."""

import argparse
import json
import pathlib
import re
import subprocess

from provenance import ROOT, provenance

# What Google Benchmark says about every entry, beside the counters that ours add.
BOOKKEEPING = {
    "name", "run_name", "run_type", "family_index", "per_family_instance_index", "repetitions", "repetition_index",
    "threads", "iterations", "real_time", "cpu_time", "time_unit",
}


def run(program, arguments):
    output = subprocess.run([program, "--benchmark_format=json", *arguments], check=True, capture_output=True, text=True)
    entries = []
    # Where no name matches the filter, nothing is printed.
    for benchmark in json.loads(output.stdout)["benchmarks"] if output.stdout.strip() else []:
        if benchmark.get("error_occurred"):
            print(f"  {benchmark['name']}: {benchmark['error_message']}")
            continue
        entry = {"name": re.sub(r"/(real_time|iterations:\d+|min_time:[\d.]+)", "", benchmark["name"])}
        entry["time_" + benchmark["time_unit"]] = benchmark["real_time"]
        entry.update({name: value for name, value in benchmark.items() if name not in BOOKKEEPING})
        entries.append(entry)
    return entries


def main():
    parser = argparse.ArgumentParser(prog="bench/run_benchmarks.py", description=__doc__)
    parser.add_argument("names", nargs="*", default=["attention", "compile", "memory", "store", "cuda_compile"], help="which programs to run")
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path, help="the build folder that holds them")
    parser.add_argument("--filter", default=".", help="run only benchmarks whose name matches this expression")
    arguments = parser.parse_args()
    for name in arguments.names:
        program = arguments.build / "bench" / f"bench_{name}"
        entries = run(program, [f"--benchmark_filter={arguments.filter}"])
        if not entries:
            print(f"{name}: nothing was measured, its results stay as they are")
            continue
        path = ROOT / "bench" / "results" / f"{name}.json"
        path.write_text(json.dumps({**provenance(), "benchmarks": entries}, indent=2) + "\n")
        print(f"{path.relative_to(ROOT)}:")
        for entry in entries:
            print("  " + "  ".join(f"{key}={value:.4g}" if key != "name" else value for key, value in entry.items()))


if __name__ == "__main__":
    main()
