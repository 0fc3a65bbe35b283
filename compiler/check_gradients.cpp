#include "compiler/check_gradients.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "compiler/bind_arrays.h"
#include "compiler/tensor_checks.h"
#include "ir/error.h"
#include "ir/nearest_name.h"
#include "ir/verify.h"

namespace harrier {
namespace {

/// A dimension of a view in bytes.
struct Step {
  int64_t stride;
  int64_t count;
};

/// Memory as nested repetitions of a few bytes, largest stride first.
struct Footprint {
  int64_t begin = 0;  // address
  int64_t element_bytes = 0;
  std::vector<Step> steps = {};
  bool is_empty = false;

  /// Bytes from the first to past the last, of the dimensions from `first_step` on.
  int64_t span(size_t first_step) const {
    int64_t bytes = element_bytes;
    for (size_t i = first_step; i < steps.size(); ++i) bytes += steps[i].stride * (steps[i].count - 1);
    return bytes;
  }
};

Footprint footprint_of(const TensorView& view) {
  Footprint footprint{.begin = std::bit_cast<int64_t>(view.data), .element_bytes = bytes_of(view.dtype)};
  int64_t dense = footprint.element_bytes;
  for (size_t i = view.shape.size(); i-- > 0;) {
    const int64_t stride = view.strides.empty() ? dense : view.strides[i] * footprint.element_bytes;
    dense *= view.shape[i];
    if (view.shape[i] == 0) footprint.is_empty = true;
    if (view.shape[i] > 1 && stride > 0) footprint.steps.push_back({.stride = stride, .count = view.shape[i]});
  }
  std::ranges::sort(footprint.steps, std::ranges::greater{}, &Step::stride);
  return footprint;
}

/// A dense array, of which only the extent matters.
Footprint footprint_of(const ArrayView& array) {
  const int64_t count = element_count(array.shape);
  return {.begin = std::bit_cast<int64_t>(array.data),
          .element_bytes = count * bytes_of(array.type),
          .steps = {},
          .is_empty = count == 0};
}

bool may_share(const Footprint& a, const Footprint& b) {
  if (a.is_empty || b.is_empty) return false;
  int64_t distance = b.begin - a.begin;
  const auto are_apart = [&](size_t step) { return distance >= a.span(step) || -distance >= b.span(step); };
  if (are_apart(0)) return false;
  // Dimensions that both step through alike are taken off one by one: what is left of both lies inside one period of
  // that dimension, at some distance. Where it reaches past a period's end it may meet the next one.
  const size_t common = std::min(a.steps.size(), b.steps.size());
  for (size_t step = 0; step < common; ++step) {
    const int64_t period = a.steps[step].stride;
    if (b.steps[step].stride != period) return true;
    distance %= period;
    const int64_t end = std::max(a.span(step + 1), distance + b.span(step + 1));
    if (end - std::min<int64_t>(0, distance) > period) return true;
    if (are_apart(step + 1)) return false;
  }
  return true;
}

/// Memory under the name that errors call it by.
struct Named {
  std::string name;
  Footprint memory;
};

void check_no_sharing(const std::vector<Named>& written, const std::vector<Named>& read) {
  const auto refuse = [](const Named& left, const Named& right) {
    throw InvalidInput(
        fmt::format("{} lies on the memory of {}; it is written, so give it memory of its own", left.name, right.name));
  };
  for (size_t i = 0; i < written.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (may_share(written[i].memory, written[j].memory)) refuse(written[i], written[j]);
    }
    for (const Named& other : read) {
      if (may_share(written[i].memory, other.memory)) refuse(written[i], other);
    }
  }
}

void check_array_gradient(const std::string& name, const TensorView& gradient, const std::vector<ArrayUse>& uses,
                          const Bindings& bindings) {
  const auto use = std::ranges::find(uses, name, &ArrayUse::name);
  if (use == uses.end()) {
    std::vector<std::string_view> known;
    for (const ArrayUse& each : uses) known.push_back(each.name);
    const std::string_view nearest = nearest_name(name, known);
    throw InvalidInput(
        fmt::format("a gradient of @{} is asked for, but the pattern names no such array{}; leave it out", name,
                    nearest.empty() ? "" : fmt::format(" (did you mean @{}?)", nearest)));
  }
  if (!has_gradient(use->role)) {
    throw InvalidInput(
        fmt::format("@{} ({}) has no gradient: only floats that scores or the softmax read have one; "
                    "leave it out",
                    name, name_of(use->role)));
  }
  const auto bound = bindings.find(name);
  if (bound == bindings.end()) return;  // binding says so
  const std::string what = fmt::format("the gradient of @{}", name);
  check_tensor(what, gradient, DataType::kFloat32, bound->second.shape, "the array's shape", Access::kWritten);
  if (!gradient.strides.empty()) {
    int64_t dense = 1;
    for (size_t i = gradient.shape.size(); i-- > 0;) {
      if (gradient.shape[i] > 1 && gradient.strides[i] != dense) {
        throw InvalidInput(fmt::format("{} has strides [{}] for shape {}; make it dense", what,
                                       fmt::join(gradient.strides, ", "), print_shape(gradient.shape)));
      }
      dense *= gradient.shape[i];
    }
  }
}

}  // namespace

bool may_share_memory(const TensorView& left, const TensorView& right) {
  return may_share(footprint_of(left), footprint_of(right));
}

void check_gradients(const AttentionGradients& gradients, const AttentionTensors& tensors, const Pattern& pattern,
                     const Bindings& bindings) {
  const std::string_view layout = tensors.cu_seqlens.empty() ? "[batch, heads, length, dim]" : "[tokens, heads, dim]";
  if (tensors.lse.data == nullptr && element_count(tensors.q.shape) > 0) {
    throw InvalidInput("lse is missing; a backward call needs the one that the forward call wrote");
  }
  const auto check = [&](const char* name, const TensorView& gradient, const TensorView& of, Access access) {
    check_tensor(name, gradient, of.dtype, of.shape, layout, access);
  };
  check("d_out", gradients.d_out, tensors.out, Access::kRead);
  check("d_q", gradients.d_q, tensors.q, Access::kWritten);
  check("d_k", gradients.d_k, tensors.k, Access::kWritten);
  check("d_v", gradients.d_v, tensors.v, Access::kWritten);
  const std::vector<ArrayUse> uses = array_uses(pattern);
  for (const auto& [name, gradient] : gradients.arrays) check_array_gradient(name, gradient, uses, bindings);

  std::vector<Named> written;
  std::vector<Named> read;
  const auto add = [](std::vector<Named>& to, std::string name, const TensorView& view) {
    to.push_back({std::move(name), footprint_of(view)});
  };
  add(written, "d_q", gradients.d_q);
  add(written, "d_k", gradients.d_k);
  add(written, "d_v", gradients.d_v);
  for (const auto& [name, view] : gradients.arrays) add(written, fmt::format("the gradient of @{}", name), view);
  add(read, "q", tensors.q);
  add(read, "k", tensors.k);
  add(read, "v", tensors.v);
  add(read, "out", tensors.out);
  add(read, "lse", tensors.lse);
  add(read, "d_out", gradients.d_out);
  for (const auto& [name, array] : bindings) read.push_back({"@" + name, footprint_of(array)});
  check_no_sharing(written, read);
}

}  // namespace harrier
