#include "ir/workload.h"

namespace harrier {

const char* name_of(DataType type) {
  switch (type) {
    case DataType::kBFloat16:
      return "bf16";
    case DataType::kFloat16:
      return "fp16";
    case DataType::kFloat32:
      break;
  }
  return "fp32";
}

int64_t bytes_of(DataType type) { return type == DataType::kFloat32 ? 4 : 2; }

}  // namespace harrier
