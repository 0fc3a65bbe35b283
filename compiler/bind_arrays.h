// Binding, array by array: shapes and element types checked, elements converted to what kernels and passes read.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/bind.h"
#include "ir/error.h"
#include "ir/geometry.h"
#include "ir/launch.h"
#include "ir/workload.h"

namespace harrier {

inline constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

/// An array as kernels read it, and how many elements lie behind it.
struct BoundSlot {
  BoundArray array;
  int64_t elements = 0;
};

/// One bind() under way.
struct BindState {
  const Shape& shape;
  const Geometry& geometry;
  const Bindings& bindings;
  BoundPattern& bound;
  int64_t batch = 0;
  int64_t max_query_length = 0;
  int64_t max_key_length = 0;
  std::map<std::string, BoundSlot> slots = {};  // by slot name, as LoweredPattern::arrays names them
};

/// The binding of a name that is known to be bound.
const ArrayView& view_of(const BindState& state, const std::string& name);

/// "[2, 16, 16]"
std::string print_shape(const std::vector<int64_t>& shape);

/// Where element `index` is: "[0, 3, 5]".
std::string print_place(const std::vector<int64_t>& shape, int64_t index);

/// Refuses an array whose element type is not an integer (or bool).
void check_int_type(const std::string& name, const ArrayView& view);

/// Calls visit(element) with a function from flat index to int64 value. The array holds integers.
template <typename Visit>
void visit_ints(const ArrayView& view, Visit&& visit) {
  const auto as = [&]<typename T>(T /*type*/) {
    const char* data = static_cast<const char*>(view.data);
    // Callers' arrays need not be aligned, so elements are copied out.
    visit([data](int64_t index) {
      T value;
      std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
      if constexpr (std::is_same_v<T, uint64_t>) {
        constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
        return static_cast<int64_t>(value < kMax ? value : kMax);
      } else {
        return static_cast<int64_t>(value);
      }
    });
  };
  switch (view.type) {
    case ElementType::kBool:
    case ElementType::kUInt8:
      return as(uint8_t{});
    case ElementType::kInt8:
      return as(int8_t{});
    case ElementType::kInt16:
      return as(int16_t{});
    case ElementType::kUInt16:
      return as(uint16_t{});
    case ElementType::kInt32:
      return as(int32_t{});
    case ElementType::kUInt32:
      return as(uint32_t{});
    case ElementType::kInt64:
      return as(int64_t{});
    case ElementType::kUInt64:
      return as(uint64_t{});
    default:
      raise_internal_error(__FILE__, __LINE__, "floats were taken for integers");
  }
}

/// The array as int32: the caller's memory where it is that already, else a copy that `bound` owns. Throws InvalidInput
/// for another kind of number and for the first element outside [low, high] (which lie within int32).
const int32_t* to_int32(BindState& state, const std::string& name, int64_t low, int64_t high, std::string_view remedy);

/// Fill state.slots, and views, tokens, segments, int_extremes of state.bound.
void bind_global_tokens(BindState& state, const std::string& name);
void bind_segments(BindState& state, const std::string& name);
void bind_bits(BindState& state, const std::string& name);
void bind_bias(BindState& state, const std::string& name);
void bind_per_head(BindState& state, const std::string& name, std::string_view role);
void bind_expression_array(BindState& state, const std::string& name, int rank, bool is_float);

}  // namespace harrier
