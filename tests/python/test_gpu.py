"""GPUs, on the library that stands in for one: kernels on arrays of the host and of the device, tuning, export.

The library is loaded as driver and NVRTC before the package looks for them, so these tests run in a process of their own.
HARRIER_TEST_GPU=real leaves driver and NVRTC those of the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import harrier as hr
import pytest

EMULATED = os.environ.get("HARRIER_EMULATED_GPU", "")


@pytest.fixture
def run_on_gpu(tmp_path: Path, request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Runs a program with a GPU, emulated or real, and a cache of its own, and returns what it prints as JSON."""
    return program_runner(tmp_path, request.node.get_closest_marker("emulated_gpu") is not None)


def program_runner(folder: Path, needs_emulated: bool):  # type: ignore[no-untyped-def]
    is_real = os.environ.get("HARRIER_TEST_GPU") == "real"
    if is_real and needs_emulated:
        pytest.skip("only the emulated GPU has what this test needs")
    if not is_real and not Path(EMULATED).is_file():
        pytest.skip("HARRIER_EMULATED_GPU names no library: build harrier_emulated_gpu")
    libraries = {"HARRIER_LIBCUDA": EMULATED, "HARRIER_NVRTC": EMULATED}
    if is_real:
        libraries = {"HARRIER_LIBCUDA": os.environ.get("HARRIER_LIBCUDA") or "libcuda.so.1"}

    def run(program: str, **environment: str) -> object:
        tests = str(Path(__file__).parent)
        variables = {
            **os.environ,
            **libraries,
            "HARRIER_CACHE_DIR": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", ""), *sys.path]),
            **environment,
        }
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_arrays_of_the_host_are_copied_there_and_back(run_on_gpu) -> None:  # type: ignore[no-untyped-def]
    errors = run_on_gpu("""
        import json, numpy as np, harrier as hr, reference
        rng = np.random.default_rng(1)
        q, k, v = rng.standard_normal((3, 1, 2, 90, 64)).astype(np.float16)
        kernel = hr.compile(hr.causal & hr.window(30, 0) | hr.sink(3), hr.Shape(heads=2, head_dim=64, dtype="fp16"), backend="cuda")
        out, lse = kernel(q, k, v, return_lse=True)
        counts = lambda g: ((g.k <= g.q) & (g.q - g.k <= 30)) | (g.k < 3)
        expected, expected_lse = reference.attend(q, k, v, counts)
        d_out = rng.standard_normal(q.shape).astype(np.float16)
        got = kernel.backward(d_out, q, k, v, out, lse)
        gradients = zip((got.q, got.k, got.v), reference.gradients(q, k, v, d_out, counts))
        pairs = [(out, expected), (lse, expected_lse), *gradients]
        print(json.dumps([float(abs(x - y).max()) for x, y in pairs]))
        """)
    assert max(errors) < 2e-2  # type: ignore[type-var]


def test_device_tensors_are_bound_prepared_and_enqueued(run_on_gpu) -> None:  # type: ignore[no-untyped-def]
    """The emulated device's memory is the driver's, so tensors are laid there by hand."""
    error = run_on_gpu("""
        import ctypes, json, os, numpy as np, reference
        from harrier import _harrier
        gpu = _harrier.Gpu(0)
        driver = ctypes.CDLL(os.environ["HARRIER_LIBCUDA"])
        pointer = ctypes.c_uint64

        def on_device(array):
            address = pointer()
            assert driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(array.nbytes)) == 0
            assert driver.cuMemcpyHtoD_v2(address, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes)) == 0
            return address.value

        compiler = _harrier.CudaCompiler(gpu)
        text = "attention x { heads 2 head_dim 64 dtype fp16 mask documents(@segment) & causal }"
        kernel = compiler.compile(_harrier.Workload(text))
        context = ctypes.c_void_p()
        assert driver.cuInit(0) == 0 and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
        assert driver.cuCtxPushCurrent_v2(context) == 0
        rng = np.random.default_rng(2)
        q, k, v = rng.standard_normal((3, 70, 2, 64)).astype(np.float16)
        segment = (np.arange(70) // 20).astype(np.int32)
        offsets = np.array([0, 30, 70], np.int32)
        out, lse = np.zeros_like(q), np.zeros((70, 2), np.float32)
        addresses = {name: on_device(x) for name, x in locals().copy().items() if isinstance(x, np.ndarray)}
        binding = kernel.bind_on_device(2, True, 70, 70, 40, 40, (addresses["offsets"], 0), (0, 0),
                                        {"segment": (addresses["segment"], "int32", (70,))})
        place = lambda name: (addresses[name], 0, 128, 64)
        launch = kernel.prepare(binding, place("q"), place("k"), place("v"), place("out"), (addresses["lse"], 0, 2, 1))
        launch.enqueue(0)
        assert driver.cuMemcpyDtoH_v2(out.ctypes.data_as(ctypes.c_void_p), pointer(addresses["out"]), ctypes.c_size_t(out.nbytes)) == 0
        worst = 0.0
        for begin, end in ((0, 30), (30, 70)):
            one = [x[begin:end].transpose(1, 0, 2)[None] for x in (q, k, v)]
            ids = segment[begin:end]
            expected, _ = reference.attend(*one, lambda g: (ids[g.q] == ids[g.k]) & (g.k <= g.q))
            worst = max(worst, float(abs(out[begin:end].transpose(1, 0, 2) - expected[0]).max()))
        print(json.dumps(worst))
        """)
    assert error < 5e-3  # type: ignore[operator]


@pytest.mark.skipif(
    os.environ.get("HARRIER_TEST_THOROUGH") != "1", reason="compiles many plans: HARRIER_TEST_THOROUGH=1 does"
)
def test_tunings_are_kept_and_found(run_on_gpu) -> None:  # type: ignore[no-untyped-def]
    found = run_on_gpu("""
        import json, harrier as hr
        workload = hr.parse("attention w { heads 1 head_dim 64 dtype fp16 mask causal lengths fixed(64) }")
        tuning = hr.tune(workload, budget=1.0)
        print(json.dumps([tuning.saved, tuning.candidates, tuning.plan, tuning.tuned_us <= tuning.default_us]))
        """)
    saved, candidates, plan, is_no_slower = found  # type: ignore[misc]
    assert saved and candidates > 1 and plan and is_no_slower


def test_exports_appear_in_their_folder(run_on_gpu, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = run_on_gpu(f"""
        import json, harrier as hr
        workload = hr.Workload("window", hr.Pattern(hr.causal & hr.window(64, 0)), hr.Shape(heads=2, head_dim=64, dtype="bf16"))
        export = hr.export(workload, {str(tmp_path / "kernels")!r}, architectures=["sm_80"])
        assert export.kernels[0].workload == "window" and export.kernels[0].bytes > 0
        print(json.dumps(export.files))
        """)
    assert "harrier_kernels.c" in files  # type: ignore[operator]
    assert (tmp_path / "kernels" / "harrier_kernels.h").is_file()


def test_a_machine_without_a_gpu_says_what_to_do() -> None:
    program = "import harrier as hr\nhr.compile(hr.causal, hr.Shape(dtype='bf16'), backend='cuda')"
    environment = {**os.environ, "HARRIER_LIBCUDA": "/no/such/libcuda.so"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "harrier.DeviceError: no CUDA driver" in done.stderr.splitlines()[-1]


def test_errors_of_devices_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARRIER_LIBCUDA", "/no/such/libcuda.so")
    from harrier import _harrier

    with pytest.raises(hr.DeviceError) as caught:
        _harrier.Gpu(0)
    assert caught.value.failure == "no_driver" and isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("format", ["zip", ""])
def test_unknown_formats_are_refused(format: str, tmp_path: Path, run_on_gpu) -> None:  # type: ignore[no-untyped-def]
    message = run_on_gpu(f"""
        import json, harrier as hr
        workload = hr.Workload("w", hr.Pattern(hr.causal), hr.Shape(dtype="bf16"))
        try:
            hr.export(workload, {str(tmp_path / "out")!r}, format={format!r})
        except hr.InvalidInput as error:
            print(json.dumps(str(error)))
        """)
    assert "expected 'c', 'pack' or 'fatbin'" in message  # type: ignore[operator]


@pytest.mark.emulated_gpu
def test_tensors_of_torch_go_to_the_current_stream(run_on_gpu) -> None:  # type: ignore[no-untyped-def]
    """torch itself knows no emulated device, so stand-ins have a tensor's shape, strides and type, and such an address.

    test_cuda.py does the same with tensors.
    """
    pytest.importorskip("torch", reason="torch is not installed: scripts/test-python --torch")
    found = run_on_gpu("""
        import json, numpy as np, torch, reference
        from harrier import torch_cuda
        import harrier as hr
        from device_standins import OnDevice, attend

        torch.manual_seed(3)
        worst = {}
        # Padded views of a fused projection, keys shared by heads, ALiBi; valid lengths.
        fused = torch.randn(2, 70, 5, 64).half()
        q, k, v = fused[:, :, :2].transpose(1, 2), fused[:, :, 2:3].transpose(1, 2), fused[:, :, 3:4].transpose(1, 2)
        slopes, lengths = torch.tensor([0.1, 0.3]), torch.tensor([70, 41], dtype=torch.int32)
        ids = torch.stack([torch.arange(70) // 50, torch.arange(70) // 33]).int()
        pattern = hr.Pattern(hr.causal & hr.window(30, 0) & hr.documents("segment"), alibi="slopes")
        out, lse = attend(pattern, q, k, v, {"slopes": slopes, "segment": ids}, lengths=lengths)
        own = lambda g: ids[g.batch].numpy()
        counts = lambda g: (g.k <= g.q) & (g.q - g.k <= 30) & (g.k < int(lengths[g.batch])) & (own(g)[g.q] == own(g)[g.k])
        expected, _ = reference.attend(*(x.numpy() for x in (q, k, v)), counts, score=lambda s, g: s - float(slopes[g.head]) * abs(g.q - g.k))
        expected[1, :, 41:] = 0
        worst["padded"] = float(abs(out - expected).max())
        # Packed documents, ids of 64 bits.
        q, k, v = torch.randn(3, 90, 2, 64).half()
        segment, offsets = torch.arange(90) // 20, torch.tensor([0, 30, 90], dtype=torch.int32)
        out, lse = attend(hr.Pattern(hr.documents("segment")), q, k, v, {"segment": segment}, cu_seqlens=offsets, max_seqlen=60)
        worst["packed"] = 0.0
        for a, b in ((0, 30), (30, 90)):
            ids = segment[a:b].numpy()
            expected, expected_lse = reference.attend(*(x[a:b].transpose(0, 1)[None].numpy() for x in (q, k, v)), lambda g: ids[g.q] == ids[g.k])
            worst["packed"] = max(worst["packed"], float(abs(out[a:b] - expected[0].transpose(1, 0, 2)).max()), float(abs(lse[a:b] - expected_lse[0].T).max()))
        # Gradients of packed tensors and of slopes, against autograd in double precision.
        q, k, v, d_out = torch.randn(4, 70, 2, 64).half()
        slopes = torch.tensor([0.1, 0.3])
        pattern = hr.Pattern(hr.causal & hr.window(30, 0), alibi="slopes")
        whole = torch.tensor([0, 70], dtype=torch.int32)
        out, lse = torch.zeros_like(q), torch.zeros(70, 2)
        tensors = {name: OnDevice(x) for name, x in dict(q=q, k=k, v=v, out=out, lse=lse, cu_seqlens=whole).items()}
        call = torch_cuda.Call(**tensors, lengths=None, key_lengths=None, key_cu_seqlens=None, max_seqlen=70, key_max_seqlen=None,
                               arrays={"slopes": OnDevice(slopes)})
        clauses = lambda direction: f"attention x {{ heads 2 head_dim 64 dtype fp16 direction {direction} {pattern.text} }}"
        torch_cuda.run(call, "forward", lambda: clauses("forward"))
        written = {name: OnDevice(torch.full_like(q, torch.nan)) for name in ("d_q", "d_k", "d_v")}
        d_slopes = OnDevice(torch.full((2,), torch.nan))
        torch_cuda.run(call, "backward", lambda: clauses("backward"), torch_cuda.GradientCall(d_out=OnDevice(d_out), **written, d_arrays={"slopes": d_slopes}))
        leaves = [x.double().requires_grad_() for x in (q, k, v, slopes)]
        i = torch.arange(70)
        apart = i[:, None] - i[None]
        s = torch.einsum("qhd,khd->hqk", leaves[0], leaves[1]) / 8 - leaves[3][:, None, None] * apart.abs()
        s = s.masked_fill((apart < 0) | (apart > 30), -torch.inf)
        torch.einsum("hqk,khd->qhd", s.softmax(-1), leaves[2]).backward(d_out.double())
        got = [*(x.back() for x in written.values()), d_slopes.back()]
        worst["gradients"] = max(float((x.double() - y.grad).abs().max() / y.grad.abs().max()) for x, y in zip(got, leaves))
        # Arrays that an expression indexes, and lists of global tokens, are bound by the host.
        q, k, v = torch.randn(3, 2, 2, 50, 64).half()
        prefix, tokens = torch.tensor([7, 19]), torch.tensor([[3, -1], [0, 44]])
        pattern = hr.Pattern(hr.causal | hr.where(hr.k < hr.array("prefix")[hr.b]) | hr.global_("tokens"))
        out, lse = attend(pattern, q, k, v, {"prefix": prefix, "tokens": tokens}, lengths=torch.tensor([50, 31]))
        def counts(g):
            listed = tokens[g.batch].numpy()
            shown = (g.k <= g.q) | (g.k < int(prefix[g.batch])) | np.isin(g.q, listed) | np.isin(g.k, listed)
            return shown & (g.k < (50, 31)[g.batch])
        expected, _ = reference.attend(*(x.numpy() for x in (q, k, v)), counts)
        expected[1, :, 31:] = 0
        worst["bound by the host"] = float(abs(out - expected).max())
        messages = []
        q, k, v = torch.randn(3, 90, 2, 64).half()
        for bad in (lambda: attend(hr.Pattern(hr.where(hr.array("a")[hr.k + 90] > 0)), q, k, v, {"a": segment}, cu_seqlens=offsets),
                    lambda: attend(hr.Pattern(), q.transpose(1, 2), k, v, {}, cu_seqlens=offsets)):
            try: bad()
            except (hr.InvalidInput, hr.DeviceError) as error: messages.append(str(error))
        print(json.dumps([worst, len(torch_cuda._launches), messages]))
        """)
    worst, launches, messages = found  # type: ignore[misc]
    assert max(worst.values()) < 1e-2
    assert launches == 5  # each was found again
    assert len(messages) == 2 and "stride" in messages[1]
