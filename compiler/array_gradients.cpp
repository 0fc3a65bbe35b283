#include "compiler/array_gradients.h"

#include <algorithm>

#include "ir/error.h"

namespace harrier {
namespace {

/// As many copies keep so many threads from waiting for each other.
constexpr int64_t kMostCopies = 16;

/// Copies take no more memory than this, beyond the first.
constexpr int64_t kCopyBytes = int64_t{16} << 20;

bool is_variable(const Expression& expression, VariableKind kind) {
  const auto* variable = std::get_if<Variable>(&expression.node);
  return variable != nullptr && variable->kind == kind;
}

/// The only load of `array` that the score's slopes know; null where there are several, or none.
const Load* only_load(const ScoreSlopes& slopes, const std::string& array) {
  const auto loads_array = [&](const LoadSlope& each) { return each.load.array == array; };
  if (std::ranges::count_if(slopes.in_loads, loads_array) != 1) return nullptr;
  return &std::ranges::find_if(slopes.in_loads, loads_array)->load;
}

/// True when different (query, key) pairs of one head load different elements.
bool is_of_pairs(const Load& load) {
  const auto has = [&](VariableKind kind) {
    return std::ranges::any_of(load.indices, [&](const Expression& index) { return is_variable(index, kind); });
  };
  return has(VariableKind::kQuery) && has(VariableKind::kKey);
}

/// True when each head of each sequence has elements of its own.
bool is_own(const Load& load, const BoundArray& array, const LaunchState& state) {
  const auto separates = [&](VariableKind kind, int64_t extent) {
    if (extent <= 1) return true;
    for (size_t i = 0; i < load.indices.size(); ++i) {
      if (is_variable(load.indices[i], kind) && array.strides[i] != 0) return true;
    }
    return false;
  };
  return separates(VariableKind::kBatch, std::ssize(state.geometry->sequences)) &&
         separates(VariableKind::kHead, state.compilation->workload.shape.heads);
}

}  // namespace

ArrayGradients::ArrayGradients(const LaunchState& state, const std::map<std::string, TensorView>& wanted)
    : state_(state), slots_(state.compilation->lowered.arrays.size()) {
  const Compilation& compilation = *state.compilation;
  std::vector<float*> in_place(slots_, nullptr);
  int64_t copied_bytes = 0;
  for (const auto& [name, view] : wanted) {
    const auto is_slot = [&](const ArraySlot& slot) { return slot.name == name; };
    const auto slot = std::ranges::find_if(compilation.lowered.arrays, is_slot);
    HARRIER_CHECK(slot != compilation.lowered.arrays.end(), "a float array must have a slot");
    const auto place = static_cast<size_t>(slot - compilation.lowered.arrays.begin());
    const int64_t elements = state.bound.array_elements[place];
    auto* sum = static_cast<float*>(view.data);
    std::fill_n(sum, elements, 0.0F);
    const Load* load = only_load(compilation.slopes, name);
    if (load != nullptr && is_of_pairs(*load)) {
      in_place[place] = sum;
      shares_pairs_ = shares_pairs_ || !is_own(*load, state.bound.arrays[place], state);
    } else {
      copied_.push_back({.slot = place, .elements = elements, .sum = sum});
      copied_bytes += elements * static_cast<int64_t>(sizeof(float));
    }
  }
  if (copied_bytes > 0) copies_ = std::clamp<int64_t>(1 + kCopyBytes / copied_bytes, 1, kMostCopies);
  for (Copied& array : copied_) array.memory.resize(static_cast<size_t>(copies_ * array.elements));
  for (int64_t copy = 0; copy < copies_; ++copy) {
    for (Copied& array : copied_) in_place[array.slot] = array.memory.data() + copy * array.elements;
    pointers_.insert(pointers_.end(), in_place.begin(), in_place.end());
  }
}

SharedMemory ArrayGradients::shares(int64_t earlier, int64_t later) const {
  if (!copied_.empty() && earlier % copies_ == later % copies_) return SharedMemory::kAny;
  const bool is_same_tile =
      state_.order[static_cast<size_t>(earlier)].tile == state_.order[static_cast<size_t>(later)].tile;
  return shares_pairs_ && is_same_tile ? SharedMemory::kByKey : SharedMemory::kNone;
}

void ArrayGradients::finish() {
  for (const Copied& array : copied_) {
    for (int64_t copy = 0; copy < copies_; ++copy) {
      const float* part = array.memory.data() + copy * array.elements;
      for (int64_t i = 0; i < array.elements; ++i) array.sum[i] += part[i];
    }
  }
}

}  // namespace harrier
