"""Workloads through the Python package, and the program bench_gpu with the same ones."""

import concurrent.futures
import contextlib
import os
import pathlib
import tempfile

import harrier as hr
import torch
from gpu_errors import compare_backward, compare_forward
from gpu_harrier import Harrier


class PythonCase:
    """A workload's tensors, and its forward and backward calls."""

    def __init__(self, workload):
        self.workload = workload
        arrays = {
            name: tensor.to(torch.int32).cuda() for name, tensor in (workload.arrays() if workload.arrays else {}).items()
        }
        mask = hr.parse_mask(workload.pattern.removeprefix("mask "))
        self.pattern = hr.Pattern(mask).bind(**arrays)
        self.q, self.k, self.v = (
            torch.randn(workload.batch, heads, workload.length, workload.head_dim, device="cuda", dtype=torch.bfloat16)
            for heads in (workload.q_heads, workload.kv_heads, workload.kv_heads)
        )
        self.leaves = [x.detach().requires_grad_() for x in (self.q, self.k, self.v)]
        self.out = hr.attention(*self.leaves, self.pattern)
        self.d_out = torch.randn_like(self.q)
        self.forward()
        self.backward()

    def forward(self):
        return hr.attention(self.q, self.k, self.v, self.pattern)

    def backward(self):
        return torch.autograd.grad(self.out, self.leaves, self.d_out, retain_graph=True)

    def settle(self):
        """Arrays that have served for so long are looked at by the host, as in any loop of a program."""
        if self.pattern.array_names:
            for _ in range(260):
                self.forward()
                self.backward()

    def errors(self):
        """Against float64, on one head."""
        workload, head, batch = self.workload, self.workload.q_heads - 1, self.workload.batch - 1
        group = workload.q_heads // workload.kv_heads
        q, out, d_out = (x[batch, head].double() for x in (self.q, self.forward(), self.d_out))
        k, v = (x[batch, head // group].double() for x in (self.k, self.v))
        found = {"forward": compare_forward(workload, q, k, v, out, head, batch)}
        if group == 1:
            d_q, d_k, d_v = (x[batch, head].double() for x in self.backward())
            found["backward"] = compare_backward(workload, q, k, v, d_out, d_q, d_k, d_v, head, batch)
        return found


def compile_all(workloads):
    """Cases, each compiled in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count())) as pool:
        return list(pool.map(PythonCase, workloads))


@contextlib.contextmanager
def kernel_program(build, workloads):
    """bench_gpu with every workload prepared, as NAME/forward and NAME/backward."""
    from gpu import write_arrays

    program = Harrier(pathlib.Path(build).resolve())
    with tempfile.TemporaryDirectory() as folder:
        for workload in workloads:
            arrays = write_arrays(workload, folder)
            for direction in ("forward", "backward"):
                program.ask(do="add", name=f"{workload.name}/{direction}", text=workload.text(direction),
                            batch=workload.batch, length=workload.length, arrays=arrays)
        program.ask(do="prepare")
        yield program
    program.process.stdin.close()
    program.process.wait(timeout=30)
