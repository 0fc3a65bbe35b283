// GPUs: compile, bind on the device, prepare, enqueue. Addresses come as numbers; whoever owns the memory keeps it.
#include <fmt/format.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "bindings.h"
#include "compiler/harrier_cuda.h"
#include "host_call.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace harrier::python {
namespace {

/// (address, batch stride, token stride, head stride), strides in elements.
using Placed = std::tuple<uint64_t, int64_t, int64_t, int64_t>;
/// (address, element type, shape) of an array of the pattern.
using PlacedArray = std::tuple<uint64_t, std::string, std::vector<int64_t>>;

CudaTensor tensor_at(const Placed& placed) {
  const auto& [address, batch_stride, token_stride, head_stride] = placed;
  return {.data = address, .batch_stride = batch_stride, .token_stride = token_stride, .head_stride = head_stride};
}

ElementType element_type_named(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(ElementType::kFloat64); ++i) {
    const auto type = static_cast<ElementType>(i);
    if (name == name_of(type)) return type;
  }
  throw InvalidInput(name + " is no type of an array of a pattern; convert it to int32 or float32");
}

CudaDeviceInputs device_inputs(int64_t batch, bool packed, int64_t query_tokens, int64_t key_tokens,
                               int64_t longest_query, int64_t longest_key, std::pair<uint64_t, uint64_t> cu_seqlens,
                               std::pair<uint64_t, uint64_t> valid, const std::map<std::string, PlacedArray>& arrays) {
  CudaDeviceInputs inputs{.batch = batch,
                          .packed = packed,
                          .query_tokens = query_tokens,
                          .key_tokens = key_tokens,
                          .longest_query = longest_query,
                          .longest_key = longest_key,
                          .cu_query = cu_seqlens.first,
                          .cu_key = cu_seqlens.second,
                          .query_valid = valid.first,
                          .key_valid = valid.second};
  for (const auto& [name, placed] : arrays) {
    const auto& [address, type, shape] = placed;
    inputs.arrays[name] = {.data = address, .type = element_type_named(type), .shape = shape};
  }
  return inputs;
}

CudaTensors tensors_at(const Placed& q, const Placed& k, const Placed& v, const Placed& out,
                       const std::optional<Placed>& lse) {
  CudaTensors tensors{.q = tensor_at(q), .k = tensor_at(k), .v = tensor_at(v), .out = tensor_at(out)};
  if (lse) {
    const auto& [address, batch_stride, token_stride, head_stride] = *lse;
    tensors.lse = {
        .data = address, .batch_stride = batch_stride, .head_stride = head_stride, .token_stride = token_stride};
  }
  return tensors;
}

void check_offsets(const std::vector<int64_t>& offsets, int64_t tokens) {
  const bool fits =
      offsets.empty() || (offsets.front() == 0 && offsets.back() == tokens && std::ranges::is_sorted(offsets));
  if (fits) return;
  throw InvalidInput(
      fmt::format("offsets of sequences do not rise from 0 to the {} tokens; give batch + 1 of them", tokens));
}

void check_valid(const std::vector<int64_t>& lengths, int64_t batch, int64_t extent) {
  const auto is_inside = [&](int64_t length) { return length >= 0 && length <= extent; };
  if (lengths.empty() || (std::ssize(lengths) == batch && std::ranges::all_of(lengths, is_inside))) return;
  throw InvalidInput(fmt::format("{} valid lengths are given, expected {} of 0 to {}", lengths.size(), batch, extent));
}

/// A batch whose lengths the host knows: offsets of packed sequences, whose extents are all tokens, or extents and
/// valid lengths of padded rows.
Geometry geometry_of(const Lengths& lengths, int64_t batch, int64_t query_extent, int64_t key_extent) {
  const auto differences = [](const std::vector<int64_t>& offsets) {
    std::vector<int64_t> each;
    for (size_t i = 1; i < offsets.size(); ++i) each.push_back(offsets[i] - offsets[i - 1]);
    return each;
  };
  if (!lengths.cu_seqlens.empty()) {
    check_offsets(lengths.cu_seqlens, query_extent);
    check_offsets(lengths.key_cu_seqlens, key_extent);
    return packed_geometry(differences(lengths.cu_seqlens), differences(lengths.key_cu_seqlens));
  }
  check_valid(lengths.lengths, batch, query_extent);
  check_valid(lengths.key_lengths, batch, key_extent);
  Geometry geometry{.sequences = {}, .query_tokens = batch * query_extent, .key_tokens = batch * key_extent};
  for (int64_t b = 0; b < batch; ++b) {
    const auto row = static_cast<size_t>(b);
    geometry.sequences.push_back({.query_length = query_extent,
                                  .key_length = key_extent,
                                  .query_valid = row < lengths.lengths.size() ? lengths.lengths[row] : query_extent,
                                  .key_valid = row < lengths.key_lengths.size() ? lengths.key_lengths[row] : key_extent,
                                  .query_token = b * query_extent,
                                  .key_token = b * key_extent});
  }
  return geometry;
}

/// What Python holds of a binding; only `prepare` looks inside.
struct HeldBinding {
  CudaBinding binding;
};

StoreHandle store_for(bool use_cache) { return use_cache ? open_store() : nullptr; }

}  // namespace

void bind_cuda(nb::module_& module) {
  nb::class_<Gpu>(module, "Gpu", "A GPU in use, and the compiler for it.")
      .def(nb::new_([](int ordinal) {
             const nb::gil_scoped_release unlocked;
             return open_gpu({.ordinal = ordinal, .libcuda = {}, .libnvrtc = {}});
           }),
           "ordinal"_a = 0)
      .def_prop_ro("name", [](const Gpu& self) { return self.device->facts().name; })
      .def_prop_ro("ordinal", [](const Gpu& self) { return self.device->facts().ordinal; })
      .def_prop_ro("architecture", [](const Gpu& self) { return target_of(self).architecture; });

  nb::class_<HeldBinding>(module, "CudaBinding", "Lengths and arrays of a batch, on the device.")
      .def_prop_ro("build_us", [](const HeldBinding& self) { return build_us(self.binding); });

  nb::class_<CudaLaunch>(module, "CudaLaunch", "A launch with all its addresses.")
      .def(
          "enqueue",
          [](const CudaLaunch& self, uint64_t stream, bool rebuild) {
            const nb::gil_scoped_release unlocked;
            self.enqueue(reinterpret_cast<cuda::Stream>(stream), rebuild);
          },
          "stream"_a, "rebuild"_a = true,
          "Enqueues the kernel on a stream, given as its address; allocates and waits for nothing. Without `rebuild` "
          "it takes the lists that the binding's last launch built of the same lengths and arrays.")
      .def_prop_ro("workspace_bytes", &CudaLaunch::workspace_bytes)
      .def_prop_ro("split_rows", &CudaLaunch::split_rows);

  nb::class_<CudaKernel>(module, "CudaKernel", "A workload compiled for a GPU.")
      .def("run", run_on_host<CudaKernel>, "q"_a, "k"_a, "v"_a, "out"_a, "lse"_a.none(), "lengths"_a, "arrays"_a,
           "As CpuKernel.run, on arrays of the host: copies them to the GPU and the results back.")
      .def("run_backward", run_backward_on_host<CudaKernel>, "q"_a, "k"_a, "v"_a, "out"_a, "lse"_a, "d_out"_a, "d_q"_a,
           "d_k"_a, "d_v"_a, "d_arrays"_a, "lengths"_a, "arrays"_a, "As CpuKernel.run_backward, likewise.")
      .def(
          "bind_on_device",
          [](const CudaKernel& self, int64_t batch, bool packed, int64_t query_tokens, int64_t key_tokens,
             int64_t longest_query, int64_t longest_key, std::pair<uint64_t, uint64_t> cu_seqlens,
             std::pair<uint64_t, uint64_t> valid, const std::map<std::string, PlacedArray>& arrays) {
            const CudaDeviceInputs inputs = device_inputs(batch, packed, query_tokens, key_tokens, longest_query,
                                                          longest_key, cu_seqlens, valid, arrays);
            const nb::gil_scoped_release unlocked;
            return HeldBinding{self.bind_on_device(inputs)};
          },
          "batch"_a, "packed"_a, "query_tokens"_a, "key_tokens"_a, "longest_query"_a, "longest_key"_a, "cu_seqlens"_a,
          "valid"_a, "arrays"_a)
      .def(
          "bind",
          [](const CudaKernel& self, const Lengths& lengths, int64_t batch, int64_t query_extent, int64_t key_extent,
             const ReadArrays& arrays) {
            const Bindings bindings = view_bindings(arrays);
            const nb::gil_scoped_release unlocked;
            return HeldBinding{self.bind(bindings, geometry_of(lengths, batch, query_extent, key_extent),
                                         {.packed = !lengths.cu_seqlens.empty()})};
          },
          "lengths"_a, "batch"_a, "query_extent"_a, "key_extent"_a, "arrays"_a,
          "Lengths and arrays of the host, brought to the device.")
      .def(
          "prepare",
          [](const CudaKernel& self, const HeldBinding& held, const Placed& q, const Placed& k, const Placed& v,
             const Placed& out, const std::optional<Placed>& lse) {
            const CudaTensors tensors = tensors_at(q, k, v, out, lse);
            const nb::gil_scoped_release unlocked;
            return self.prepare(tensors, held.binding);
          },
          "binding"_a, "q"_a, "k"_a, "v"_a, "out"_a, "lse"_a.none())
      .def(
          "prepare_backward",
          [](const CudaKernel& self, const HeldBinding& held, const Placed& q, const Placed& k, const Placed& v,
             const Placed& out, const Placed& lse, const Placed& d_out, const Placed& d_q, const Placed& d_k,
             const Placed& d_v, const std::map<std::string, uint64_t>& d_arrays) {
            const CudaTensors tensors = tensors_at(q, k, v, out, lse);
            CudaGradients gradients{
                .d_out = tensor_at(d_out), .d_q = tensor_at(d_q), .d_k = tensor_at(d_k), .d_v = tensor_at(d_v)};
            for (const auto& [name, address] : d_arrays) gradients.arrays[name] = address;
            const nb::gil_scoped_release unlocked;
            return self.prepare_backward(tensors, gradients, held.binding);
          },
          "binding"_a, "q"_a, "k"_a, "v"_a, "out"_a, "lse"_a, "d_out"_a, "d_q"_a, "d_k"_a, "d_v"_a, "d_arrays"_a,
          "As prepare, for a workload with direction backward; d_arrays are addresses of float32 arrays.")
      .def_prop_ro("array_names", [](const CudaKernel& self) { return self.compilation().array_names; })
      .def_prop_ro("plan",
                   [](const CudaKernel& self) {
                     return print(self.compilation().plan, self.compilation().workload.shape.direction);
                   })
      .def_prop_ro("notes", &CudaKernel::notes)
      .def_prop_ro("was_cached", &CudaKernel::was_cached)
      .def("code", [](const CudaKernel& self) { return self.compilation().source; }, "The kernel's CUDA text.");

  nb::class_<CudaCompiler>(module, "CudaCompiler", "Compiles for one GPU, and remembers by structure.")
      .def(
          "__init__",
          [](CudaCompiler* self, const Gpu& gpu, bool use_cache) {
            new (self) CudaCompiler(gpu, {.plan = {}, .use_cache = use_cache, .store = store_for(use_cache)});
          },
          "gpu"_a, "use_cache"_a = true)
      .def("compile", &CudaCompiler::compile, "workload"_a, nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("compilations", &CudaCompiler::compilations);
}

}  // namespace harrier::python
