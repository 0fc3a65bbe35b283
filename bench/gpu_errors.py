"""What bench/gpu.py checks before a workload's times count: one head of one sequence against float64."""

import pathlib

import torch

QUERIES_AT_ONCE = 512


def read(folder, name, columns):
    raw = (pathlib.Path(folder) / f"{name}.bin").read_bytes()
    return torch.frombuffer(bytearray(raw), dtype=torch.bfloat16).cuda().view(-1, columns).double()


def relative(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def probabilities(workload, q, k, queries, head, batch):
    scores = (q[queries] @ k.t()) * workload.head_dim**-0.5
    if workload.rule is not None:
        keys = torch.arange(workload.length, device="cuda")[None]
        scores.masked_fill_(~workload.rule(batch, head, queries[:, None], keys), -float("inf"))
    return scores.softmax(-1)


def compare_forward(workload, q, k, v, out, head, batch):
    """Relative norm of the error of 256 queries of one head, [length, dim] in double precision."""
    queries = torch.randperm(workload.length, device="cuda")[:256]
    queries[0], queries[1] = 0, workload.length - 1
    return relative(out[queries], probabilities(workload, q, k, queries, head, batch) @ v)


def compare_backward(workload, q, k, v, d_out, d_q, d_k, d_v, head, batch):
    """The largest relative norm of the errors of dQ, dK and dV of one head. Only where heads share no keys."""
    expected_q, expected_k, expected_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for queries in torch.arange(workload.length, device="cuda").split(QUERIES_AT_ONCE):
        p = probabilities(workload, q, k, queries, head, batch)
        d_p = d_out[queries] @ v.t()
        d_s = p * (d_p - (p * d_p).sum(-1, keepdim=True)) * workload.head_dim**-0.5
        expected_q[queries] = d_s @ k
        expected_k += d_s.t() @ q[queries]
        expected_v += p.t() @ d_out[queries]
    return max(relative(d_q, expected_q), relative(d_k, expected_k), relative(d_v, expected_v))


def forward_error(workload, folder, head, batch):
    tensors = (read(folder, name, workload.head_dim) for name in ("q", "k", "v", "out"))
    return compare_forward(workload, *tensors, head, batch)


def backward_error(workload, folder, head, batch):
    names = ("q", "k", "v", "d_out", "d_q", "d_k", "d_v")
    return compare_backward(workload, *(read(folder, name, workload.head_dim) for name in names), head, batch)


def error_of(harrier, workload, folder, direction):
    head, batch = workload.q_heads - 1, workload.batch - 1
    answer = harrier.ask(do="sample", name=workload.name, head=head, batch=batch, folder=str(folder))
    if "error" in answer:
        return answer["error"]
    if direction == "forward":
        return forward_error(workload, folder, head, batch)
    if workload.q_heads != workload.kv_heads:
        return "not checked here: query heads share their keys (tests/gpu/backward_test.cpp does)"
    return backward_error(workload, folder, head, batch)
