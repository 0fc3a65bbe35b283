#include "compiler/bind_arrays.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "compiler/float_arrays.h"

namespace harrier {
namespace {

constexpr int64_t kMinInt32 = std::numeric_limits<int32_t>::min();

template <typename T>
std::vector<T>& own(BindState& state, size_t count) {
  auto memory = std::make_shared<std::vector<T>>(count);
  std::vector<T>& values = *memory;
  state.bound.owned.push_back(std::move(memory));
  return values;
}

/// Row-major strides; 0 where a dimension is 1, so that it broadcasts.
BoundSlot dense(const void* data, const std::vector<int64_t>& shape) {
  BoundSlot slot{.array = {.data = data, .strides = {}}, .elements = 1};
  for (size_t i = shape.size(); i-- > 0;) {
    slot.array.strides[i] = shape[i] == 1 ? 0 : slot.elements;
    slot.elements *= shape[i];
  }
  return slot;
}

/// The four dimensions of an array of pairs. `width` is the last one that is expected; leading ones may be left out.
std::vector<int64_t> pair_shape(const BindState& state, const std::string& name, const ArrayView& view,
                                const char* role, int64_t width, const char* width_name) {
  const size_t rank = view.shape.size();
  if (rank < 2 || rank > 4) {
    throw InvalidInput(fmt::format("@{} ({}) has shape {}; expected [batch or 1, heads or 1, q_len, {}]", name, role,
                                   print_shape(view.shape), width_name));
  }
  std::vector<int64_t> shape(4 - rank, 1);
  shape.insert(shape.end(), view.shape.begin(), view.shape.end());
  const bool fits = (shape[0] == 1 || shape[0] == state.batch) && (shape[1] == 1 || shape[1] == state.shape.heads) &&
                    shape[2] == state.max_query_length && shape[3] == width;
  if (!fits) {
    throw InvalidInput(
        fmt::format("@{} ({}) has shape {}; expected [{}, {}, {}, {}] ([batch or 1, heads or 1, q_len, "
                    "{}]); bind one of that shape",
                    name, role, print_shape(view.shape), state.batch, state.shape.heads, state.max_query_length, width,
                    width_name));
  }
  return shape;
}

/// Where key `position` of a sequence is in an array of one number for each key of the batch, each row, or all rows.
class KeyLayout {
 public:
  KeyLayout(const BindState& state, const std::string& name, const std::vector<int64_t>& shape) {
    const auto& sequences = state.geometry.sequences;
    const auto all_have = [&](int64_t length) {
      return std::ranges::all_of(sequences, [&](const Sequence& s) { return s.key_length == length; });
    };
    if (shape.size() == 1 && shape[0] == state.geometry.key_tokens) {
      is_packed_ = true;
    } else if (shape.size() == 2 && shape[0] == state.batch && all_have(shape[1])) {
      row_stride_ = shape[1];
    } else if (shape.size() != 1 || !all_have(shape[0])) {
      throw InvalidInput(
          fmt::format("@{} (segment ids) has shape {}; expected [{}] (one for each key token), or [batch, length] or "
                      "[length] where all {} sequences have that length",
                      name, print_shape(shape), state.geometry.key_tokens, state.batch));
    }
  }

  /// True when the array lies in memory as the kernel reads it: by packed token.
  bool is_by_token(const Geometry& geometry) const {
    if (is_packed_) return true;
    for (size_t b = 0; b < geometry.sequences.size(); ++b) {
      if (start(geometry.sequences[b], static_cast<int64_t>(b)) != geometry.sequences[b].key_token) return false;
    }
    return true;
  }

  int64_t start(const Sequence& sequence, int64_t b) const { return is_packed_ ? sequence.key_token : b * row_stride_; }

 private:
  bool is_packed_ = false;
  int64_t row_stride_ = 0;
};

}  // namespace

const ArrayView& view_of(const BindState& state, const std::string& name) {
  const auto found = state.bindings.find(name);
  HARRIER_CHECK(found != state.bindings.end(), "array @" + name + " was not checked to be bound");
  return found->second;
}

std::string print_shape(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::string print_place(const std::vector<int64_t>& shape, int64_t index) {
  std::vector<int64_t> place(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    place[i] = index % shape[i];
    index /= shape[i];
  }
  return print_shape(place);
}

void check_int_type(const std::string& name, const ArrayView& view) {
  if (!is_float_type(view.type)) return;
  throw InvalidInput(
      fmt::format("@{} has elements of {}; expected integers; convert it to int32", name, name_of(view.type)));
}

const int32_t* to_int32(BindState& state, const std::string& name, int64_t low, int64_t high, std::string_view remedy) {
  const ArrayView& view = view_of(state, name);
  check_int_type(name, view);
  const int64_t count = element_count(view.shape);
  const bool is_usable = view.type == ElementType::kInt32 && is_aligned(view.data, alignof(int32_t));
  std::vector<int32_t>* copy = is_usable ? nullptr : &own<int32_t>(state, static_cast<size_t>(count));
  const bool needs_check = !is_usable || low > kMinInt32 || high < kMaxInt32;
  if (needs_check) {
    visit_ints(view, [&](auto element) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t value = element(i);
        if (value < low || value > high) {
          throw InvalidInput(fmt::format("@{}{} is {}, expected {} to {}; {}", name, print_place(view.shape, i), value,
                                         low, high, remedy));
        }
        if (copy != nullptr) (*copy)[static_cast<size_t>(i)] = static_cast<int32_t>(value);
      }
    });
  }
  const int32_t* data = copy != nullptr ? copy->data() : static_cast<const int32_t*>(view.data);
  state.bound.views[name] = {.data = data, .type = ElementType::kInt32, .shape = view.shape};
  return data;
}

void bind_global_tokens(BindState& state, const std::string& name) {
  const ArrayView& view = view_of(state, name);
  const bool has_rows = view.shape.size() == 2;
  if (view.shape.empty() || view.shape.size() > 2 || (has_rows && view.shape[0] != state.batch)) {
    throw InvalidInput(fmt::format("@{} (global tokens) has shape {}; expected [n] or [{}, n] (batch rows)", name,
                                   print_shape(view.shape), state.batch));
  }
  const int32_t* data = to_int32(state, name, -1, std::max<int64_t>(-1, state.max_key_length - 1),
                                 "name positions of keys, and -1 where a sequence has fewer tokens");
  std::vector<uint8_t>& members = own<uint8_t>(state, static_cast<size_t>(state.geometry.key_tokens));
  TokenLists lists;
  lists.offsets.push_back(0);
  const int64_t width = view.shape.back();
  for (int64_t b = 0; b < state.batch; ++b) {
    const Sequence& sequence = state.geometry.sequences[static_cast<size_t>(b)];
    const int64_t row = has_rows ? b * width : 0;
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < width; ++i) {
      const int32_t token = data[row + i];
      if (token >= sequence.key_length && has_rows) {
        throw InvalidInput(fmt::format("@{}[{}, {}] is {}, but sequence {} has {} keys; use -1 for no token", name, b,
                                       i, token, b, sequence.key_length));
      }
      // One list for all sequences may name tokens that a shorter one does not have.
      if (token >= 0 && token < sequence.key_length) tokens.push_back(token);
    }
    std::ranges::sort(tokens);
    tokens.erase(std::ranges::unique(tokens).begin(), tokens.end());
    for (const int32_t token : tokens) members[static_cast<size_t>(sequence.key_token + token)] = 1;
    lists.tokens.insert(lists.tokens.end(), tokens.begin(), tokens.end());
    lists.offsets.push_back(static_cast<int64_t>(lists.tokens.size()));
  }
  state.bound.tokens[name] = std::move(lists);
  state.slots[name + ".member"] = dense(members.data(), {state.geometry.key_tokens});
}

void bind_segments(BindState& state, const std::string& name) {
  const ArrayView& view = view_of(state, name);
  const KeyLayout layout(state, name, view.shape);
  const int32_t* data = to_int32(state, name, kMinInt32, kMaxInt32, "renumber the documents");
  if (!layout.is_by_token(state.geometry)) {
    std::vector<int32_t>& by_token = own<int32_t>(state, static_cast<size_t>(state.geometry.key_tokens));
    for (int64_t b = 0; b < state.batch; ++b) {
      const Sequence& sequence = state.geometry.sequences[static_cast<size_t>(b)];
      std::copy_n(data + layout.start(sequence, b), sequence.key_length, by_token.begin() + sequence.key_token);
    }
    data = by_token.data();
  }
  state.bound.segments[name] = data;
  state.slots[name] = dense(data, {state.geometry.key_tokens});
}

void bind_bits(BindState& state, const std::string& name) {
  const ArrayView& view = view_of(state, name);
  const int64_t width = state.max_key_length / 8 + (state.max_key_length % 8 != 0 ? 1 : 0);
  std::vector<int64_t> shape;
  const auto* bytes = static_cast<const uint8_t*>(view.data);
  if (view.type == ElementType::kUInt8) {
    shape = pair_shape(state, name, view, "bit mask, packed", width, "ceil(kv_len / 8)");
  } else if (view.type == ElementType::kBool) {
    shape = pair_shape(state, name, view, "bit mask", state.max_key_length, "kv_len");
    const int64_t rows = shape[0] * shape[1] * shape[2];
    shape[3] = width;
    std::vector<uint8_t>& packed = own<uint8_t>(state, static_cast<size_t>(element_count(shape)));
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* from = bytes + row * state.max_key_length;
      uint8_t* to = packed.data() + row * width;
      for (int64_t k = 0; k < state.max_key_length; ++k) {
        to[k >> 3] = static_cast<uint8_t>(to[k >> 3] | ((from[k] != 0 ? 1 : 0) << (k & 7)));
      }
    }
    bytes = packed.data();
  } else {
    throw InvalidInput(fmt::format("@{} (bit mask) has elements of {}; expected bool, or uint8 with 8 keys a byte",
                                   name, name_of(view.type)));
  }
  state.bound.views[name] = {.data = bytes, .type = ElementType::kUInt8, .shape = shape};
  state.slots[name] = dense(bytes, shape);
}

void bind_bias(BindState& state, const std::string& name) {
  const ArrayView& view = view_of(state, name);
  const std::vector<int64_t> shape = pair_shape(state, name, view, "bias", state.max_key_length, "kv_len");
  const float* data = to_float32(state.bound, name, view, Infinities::kNegative);
  state.bound.views[name] = {.data = data, .type = ElementType::kFloat32, .shape = shape};
  state.slots[name] = dense(data, shape);
}

void bind_per_head(BindState& state, const std::string& name, std::string_view role) {
  const ArrayView& view = view_of(state, name);
  if (view.shape != std::vector<int64_t>{state.shape.heads}) {
    throw InvalidInput(fmt::format("@{} ({}) has shape {}; expected [{}], one number for each query head", name, role,
                                   print_shape(view.shape), state.shape.heads));
  }
  const float* data = to_float32(state.bound, name, view, Infinities::kRefused);
  state.bound.views[name] = {.data = data, .type = ElementType::kFloat32, .shape = view.shape};
  state.slots[name] = dense(data, view.shape);
}

void bind_expression_array(BindState& state, const std::string& name, int rank, bool is_float) {
  const ArrayView& view = view_of(state, name);
  // A scalar is as often an array of one element as of none.
  const bool is_scalar = rank == 0 && view.shape == std::vector<int64_t>{1};
  const std::vector<int64_t> shape = is_scalar ? std::vector<int64_t>{} : view.shape;
  if (static_cast<int64_t>(shape.size()) != rank) {
    throw InvalidInput(fmt::format("@{} has shape {}; the pattern reads it with {} {}, so give it {} dimensions", name,
                                   print_shape(view.shape), rank, rank == 1 ? "index" : "indices", rank));
  }
  if (is_float) {
    const float* data = to_float32(state.bound, name, view, Infinities::kRefused);
    state.bound.views[name] = {.data = data, .type = ElementType::kFloat32, .shape = shape};
    state.slots[name] = dense(data, shape);
    return;
  }
  const int32_t* data = to_int32(state, name, kMinInt32, kMaxInt32, "expressions compute in int32");
  state.bound.views[name].shape = shape;
  const int64_t count = element_count(shape);
  if (count > 0) {
    const auto [least, largest] = std::minmax_element(data, data + count);
    state.bound.int_extremes[name] = {*least, *largest};
  }
  state.slots[name] = dense(data, shape);
}

}  // namespace harrier
