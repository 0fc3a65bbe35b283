"""The peers that bench/gpu.py times beside ours: cuDNN and FlexAttention, forward or backward."""

import gpu_workloads
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from triton.testing import do_bench

torch._dynamo.config.cache_size_limit = 1000
torch._functorch.config.donated_buffer = False  # backward is timed alone, over a graph that is kept

# FlexAttention's settings for 64-token blocks; the fastest one counts.
FLEX_64 = {
    "forward": [dict(BLOCK_M=64, BLOCK_N=64, num_warps=4, num_stages=stages) for stages in (3, 2)],
    "backward": [
        dict(BLOCK_M=64, BLOCK_N=64, bwd_BLOCK_M1=m, bwd_BLOCK_N1=64, bwd_BLOCK_M2=64, bwd_BLOCK_N2=m, bwd_num_warps=4,
             bwd_num_stages=2) for m in (64, 32)
    ],
}


def tensors(workload, requires_grad):
    def make(heads):
        shape = (workload.batch, heads, workload.length, workload.head_dim)
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16).requires_grad_(requires_grad)

    return make(workload.q_heads), make(workload.kv_heads), make(workload.kv_heads)


def timed_call(attention, workload, direction):
    """A function that runs `attention(q, k, v)` once, or its backward pass alone."""
    q, k, v = tensors(workload, direction == "backward")
    if direction == "forward":

        def forward():
            with torch.no_grad():
                return attention(q, k, v)

        return forward
    out = attention(q, k, v)
    d_out = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True)


def median_ms(call, warmup=30, rep=120):
    return do_bench(call, warmup=warmup, rep=rep, return_mode="median")


def cudnn(workload, direction):
    if workload.rule is not None and not workload.causal:
        return None

    def attention(q, k, v):
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=workload.causal, enable_gqa=workload.q_heads != workload.kv_heads)

    return timed_call(attention, workload, direction)


def flex(workload, direction, pinned):
    if workload.rule is None or workload.causal:
        return None
    small = workload.name.split("_")[0] in ("longformer", "bigbird", "block64")
    if small != pinned:
        return None  # each sparse workload against the setting that is fair to FlexAttention
    torch._dynamo.reset()
    mask = torch.compile(create_block_mask)(
        workload.rule, None, None, workload.length, workload.length, device="cuda", BLOCK_SIZE=64 if pinned else 128)
    best = None
    settings = FLEX_64[direction] + ([None] if direction == "backward" else []) if pinned else [None]
    for options in settings:
        compiled = torch.compile(flex_attention, dynamic=False)
        try:
            call = timed_call(lambda q, k, v: compiled(q, k, v, block_mask=mask, kernel_options=options), workload, direction)
            ms = median_ms(call, 5, 20)
        except Exception as error:  # a setting that does not compile
            print(f"{workload.name:26}flex {options}: {str(error)[:100]!r}", flush=True)
            continue
        if best is None or ms < best[0]:
            best = (ms, call)
    return best and best[1]


def peer_call(workload, peer, direction):
    """A function that runs the peer once, or None where it cannot."""
    return cudnn(workload, direction) if peer == "cudnn" else flex(workload, direction, peer == "flex_pinned")


def useful_flops(workload, direction):
    """4 x visible pairs x head dim, backward 2.5 times that."""
    pairs = gpu_workloads.nnz(workload) * workload.q_heads * workload.batch
    return (10 if direction == "backward" else 4) * pairs * workload.head_dim
