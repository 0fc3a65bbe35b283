#include "builder_tables.h"

#include "ir/match.h"

namespace harrier::test {
namespace {

int element_bytes(ElementType type) {
  switch (type) {
    case ElementType::kBool:
    case ElementType::kUInt8:
    case ElementType::kInt8:
      return 1;
    case ElementType::kInt32:
      return 4;
    case ElementType::kInt64:
      return 8;
    default:
      return 0;
  }
}

const void* upload(const ArrayView& view, Memory& memory) {
  return memory.add(view.data, element_count(view.shape) * bytes_of(view.type));
}

}  // namespace

BlockTable canonical_table(const BlockLists& lists, bool counted, Memory& memory) {
  BlockTable table{};
  table.kind = TableKind::kLists;
  table.data = memory.add(lists.blocks);
  table.offsets = memory.add(lists.offsets);
  table.counts = memory.add(lists.counts);
  table.head_stride = lists.heads > 1 ? lists.row_blocks : 0;
  table.batch_stride = lists.batches > 1 ? lists.row_blocks * lists.heads : 0;
  table.element_bytes = 4;
  table.offset_bytes = 8;
  table.block = static_cast<int>(lists.size);
  table.counted = counted ? 1 : 0;
  return table;
}

std::optional<BlockTable> raw_table(const Mask& mask, const Bindings& bindings, Memory& memory) {
  return match(
      mask.node,
      [&](const Blocks& blocks) -> std::optional<BlockTable> {
        BlockTable table{};
        table.block = static_cast<int>(blocks.size);
        table.counted = blocks.counted ? 1 : 0;
        if (!blocks.table.empty()) {
          const ArrayView& view = bindings.at(blocks.table);
          const size_t rank = view.shape.size();
          table.kind = TableKind::kDense;
          table.element_bytes = element_bytes(view.type);
          table.data = upload(view, memory);
          table.row_stride = view.shape[rank - 1];
          const int64_t head = table.row_stride * view.shape[rank - 2];
          if (rank > 2 && view.shape[rank - 3] > 1) table.head_stride = head;
          if (rank > 3 && view.shape[0] > 1) table.batch_stride = head * view.shape[1];
        } else {
          const ArrayView& offsets = bindings.at(blocks.offsets);
          const ArrayView& indices = bindings.at(blocks.indices);
          table.kind = TableKind::kLists;
          table.element_bytes = element_bytes(indices.type);
          table.offset_bytes = element_bytes(offsets.type);
          if (table.offset_bytes < 4) return std::nullopt;
          table.offsets = upload(offsets, memory);
          table.data = upload(indices, memory);
          if (offsets.shape.size() > 1 && offsets.shape[0] > 1) table.head_stride = offsets.shape[1];
        }
        return table.element_bytes > 0 ? std::optional(table) : std::nullopt;
      },
      [&](const BigBird& bigbird) -> std::optional<BlockTable> {
        BlockTable table{};
        table.kind = TableKind::kBigBird;
        table.block = static_cast<int>(bigbird.block);
        table.random = static_cast<int>(bigbird.random);
        table.counted = 1;
        const auto* source = std::get_if<BigBirdTable>(&bigbird.source);
        if (source == nullptr) {
          return std::holds_alternative<BigBirdZero>(bigbird.source) ? std::optional(table) : std::nullopt;
        }
        const ArrayView& view = bindings.at(source->array);
        const size_t rank = view.shape.size();
        table.element_bytes = element_bytes(view.type);
        table.data = upload(view, memory);
        table.row_stride = bigbird.random;
        if (rank > 2 && view.shape[0] > 1) table.head_stride = view.shape[1] * bigbird.random;
        return table.element_bytes > 0 ? std::optional(table) : std::nullopt;
      },
      [&](const And& node) -> std::optional<BlockTable> {
        for (const Mask& operand : node.operands) {
          if (auto table = raw_table(operand, bindings, memory)) return table;
        }
        return std::nullopt;
      },
      [&](const Or& node) -> std::optional<BlockTable> {
        for (const Mask& operand : node.operands) {
          if (auto table = raw_table(operand, bindings, memory)) return table;
        }
        return std::nullopt;
      },
      [&](const Not& node) { return raw_table(*node.operand, bindings, memory); },
      [](const auto&) -> std::optional<BlockTable> { return std::nullopt; });
}

}  // namespace harrier::test
