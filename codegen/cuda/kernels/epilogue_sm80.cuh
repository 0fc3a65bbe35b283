// Writes the output of a finished row, in 16 bits, from the registers that hold it.
#pragma once

#include "codegen/cuda/kernels/row_results.cuh"
#include "codegen/cuda/kernels/store_rows.cuh"

namespace harrier {

/// O of a whole row. Queries past the valid ones are zeros.
template <class Config>
__device__ __forceinline__ void store_output_rows(const ForwardParams& params, const volatile RowWork& row,
                                                  const ConsumerThread& thread,
                                                  const float (&output)[Config::kValueDim / 2]) {
  const int first_query = row.query_begin + thread.row();
  const int query_length = row.query_length, query_valid = row.query_valid;
  store_rows<Config::kBFloat16>(
      params.output_rows,
      element_of(params.output_rows, row.batch_coordinate, row.head, row.query_offset + first_query), first_query,
      query_valid, query_length, thread.lane, output);
}

}  // namespace harrier
