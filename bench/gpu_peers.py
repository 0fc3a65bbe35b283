"""The peers that bench/gpu.py times beside ours: cuDNN and FlexAttention, forward or backward."""

from dataclasses import dataclass
from typing import Optional

import gpu_workloads
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from triton.testing import do_bench

torch._dynamo.config.cache_size_limit = 1000
torch._functorch.config.donated_buffer = False  # backward is timed alone, over a graph that is kept


@dataclass
class FlexSetting:
    block: int  # tokens of the block mask's blocks
    mode: Optional[str] = None  # of torch.compile
    options: Optional[dict] = None  # the kernels' own


MAX_AUTOTUNE = "max-autotune-no-cudagraphs"

# FlexAttention's settings for patterns of 64-token blocks; the fastest one counts. On sm_90 its backward drops the one
# tile shape it has by default (64 x 128) for 64-token masks before it looks at kernel_options, so "No choices exist",
# whatever they say; max-autotune brings tiles of 32 and 64. A mask of 128-token blocks is right too, with more partial
# blocks.
FLEX_64 = {
    "forward": [
        FlexSetting(64, options=dict(BLOCK_M=64, BLOCK_N=64, num_warps=4, num_stages=stages)) for stages in (3, 2)
    ],
    "backward": [FlexSetting(64, mode=MAX_AUTOTUNE), FlexSetting(128)],
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


def has_small_blocks(workload):
    return workload.name.split("_")[0] in ("longformer", "bigbird", "block64")


def as_it_comes(workload):
    """Settings by system's name; those of 64-token blocks have no backward."""
    settings = {"flex": FlexSetting(128)}
    if has_small_blocks(workload):
        settings["flex_pinned"] = FLEX_64["forward"][0]
    return settings


def with_max_autotune(workload):
    return {"flex_max": FlexSetting(64 if has_small_blocks(workload) else 128, mode=MAX_AUTOTUNE)}


def flex_settings(workload, peer, direction):
    """Each sparse workload against the settings that are fair to FlexAttention; none where the peer does not apply."""
    if workload.rule is None or workload.causal:
        return []
    small = has_small_blocks(workload)
    if peer == "flex_max":
        return list(with_max_autotune(workload).values())
    if small != (peer == "flex_pinned"):
        return []
    return FLEX_64[direction] if small else [FlexSetting(128)]


def flex(workload, peer, direction):
    torch._dynamo.reset()
    best = None
    for setting in flex_settings(workload, peer, direction):
        try:
            mask = torch.compile(create_block_mask)(
                workload.rule, None, None, workload.length, workload.length, device="cuda", BLOCK_SIZE=setting.block)
            compiled = torch.compile(flex_attention, dynamic=False, mode=setting.mode)

            def attention(q, k, v, compiled=compiled, mask=mask, options=setting.options):
                return compiled(q, k, v, block_mask=mask, kernel_options=options)

            call = timed_call(attention, workload, direction)
            ms = median_ms(call, 5, 20)
        except Exception as error:  # a setting that does not compile
            print(f"{workload.name:26}flex {setting}: {str(error)[:100]!r}", flush=True)
            continue
        print(f"{workload.name:26}flex {setting}: {ms:.3f} ms", flush=True)
        if best is None or ms < best[0]:
            best = (ms, call)
    return best and best[1]


def flex_both(workload, setting):
    """Forward and backward calls of one compiled FlexAttention, those that compile."""
    torch._dynamo.reset()
    calls = {}
    try:
        mask = torch.compile(create_block_mask)(
            workload.rule, None, None, workload.length, workload.length, device="cuda", BLOCK_SIZE=setting.block)
        compiled = torch.compile(flex_attention, dynamic=False, mode=setting.mode)
        q, k, v = tensors(workload, True)

        def forward():
            return compiled(q, k, v, block_mask=mask, kernel_options=setting.options)

        out = forward()
        calls["forward"] = forward
        d_out = torch.randn_like(out)

        def backward():
            return torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True)

        backward()
        calls["backward"] = backward
    except Exception as error:
        print(f"{workload.name:26}flex {setting}: {str(error)[:100]!r}", flush=True)
    return calls


def peer_call(workload, peer, direction):
    """A function that runs the peer once, or None where it cannot. Peers: cudnn; flex, whose masks have 128-token blocks,
    and flex_pinned, 64-token ones, each for the patterns it suits; flex_max, with max-autotune."""
    return cudnn(workload, direction) if peer == "cudnn" else flex(workload, peer, direction)


def useful_flops(workload, direction):
    """4 x visible pairs x head dim, backward 2.5 times that."""
    pairs = gpu_workloads.nnz(workload) * workload.q_heads * workload.batch
    return (10 if direction == "backward" else 4) * pairs * workload.head_dim
