"""What changing lengths and windows compiles: ours and FlexAttention's, counted in one process."""

import time

import harrier as hr
import torch
import torch._dynamo.utils
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

LENGTHS = [128 * i + 61 * (i % 3) for i in range(4, 54)]
WINDOWS = [16 + 24 * i for i in range(20)]


def graphs():
    """Graphs that torch.compile has compiled so far in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def draw(length):
    return (torch.randn(1, 4, length, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))


def eager(length, window):
    hr.attention(*draw(length), hr.causal & hr.window(window, 0))


def through_flex_interface(length, window):
    mask = hr.create_block_mask(lambda b, h, q, k: (q >= k) & (q - k <= window), None, None, length, length)
    hr.flex_attention(*draw(length), block_mask=mask)


def compiled_ours():
    call = torch.compile(lambda q, k, v, pattern: hr.attention(q * 2, k, v, pattern), fullgraph=True, dynamic=True)
    return lambda length, window: call(*draw(length), hr.Pattern(hr.causal & hr.window(window, 0)))


def compiled_flex(dynamic):
    call = torch.compile(flex_attention, dynamic=dynamic)

    def run(length, window):
        def rule(b, h, q, k):
            return (q >= k) & (q - k <= window)

        call(*draw(length), block_mask=create_block_mask(rule, None, None, length, length, device="cuda"))

    return run


def steps():
    """50 lengths, then 20 windows."""
    return [(length, WINDOWS[0]) for length in LENGTHS] + [(LENGTHS[20], window) for window in WINDOWS]


def sweep(results, budget):
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 1000
    every = [(length, window) for length in LENGTHS for window in WINDOWS]
    systems = {
        "harrier": (eager, every),
        "harrier, FlexAttention's interface": (through_flex_interface, steps()),
        "harrier, torch.compile": (compiled_ours(), steps()),
        "flex": (compiled_flex(None), steps()),
        "flex, dynamic=True": (compiled_flex(True), steps()),
    }
    for name, (run, calls) in systems.items():
        kernels_before, graphs_before, start = hr.compilations("cuda"), graphs(), time.perf_counter()
        done, failed = 0, None
        for call in calls:
            try:
                run(*call)
            except Exception as error:
                failed = f"{call}: {type(error).__name__}: {str(error)[:1000]}"
                break
            done += 1
            if time.perf_counter() - start > budget / len(systems):
                break
        torch.cuda.synchronize()
        results.add(part="sweep", system=name, calls=done, of=len(calls), kernels_compiled=hr.compilations("cuda") - kernels_before,
                    graphs_compiled=graphs() - graphs_before, seconds=time.perf_counter() - start,
                    **({"failed": failed} if failed else {}))
