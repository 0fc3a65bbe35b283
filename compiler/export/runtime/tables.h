// What the exporter writes behind this runtime: tables of numbers and names, one definition of kExport.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "backward_structs.h"

typedef struct Image {
  const uint64_t* words;  // machine code, or PTX text ending in a zero; the bytes of little-endian words
  size_t bytes;
} Image;

typedef enum ArrayRole { kBitsArray, kBiasArray, kSegmentArray, kPerHeadArray } ArrayRole;

// Which kernel makes an array's gradient: none, one of its own for what scores load, the first for a sink's logit.
typedef enum ArrayGradient { kNoGradient, kGradientOfLoads, kGradientOfSink } ArrayGradient;

// An array that kernels load, in slot order.
typedef struct ArrayFacts {
  const char* name;
  ArrayRole role;
  unsigned head_dimensions;  // bit i: the mask reads it at its head in dimension i
  ArrayGradient gradient;
} ArrayFacts;

// The block table of a mask.
typedef struct TableFacts {
  TableKind kind;
  const char* data;     // kDenseTable: counts; kListTable: key blocks; kBigBirdTable: random blocks, or null
  const char* offsets;  // kListTable
  int block;
  int random;
  int counted;
} TableFacts;

typedef struct KernelFacts {
  const char* description;
  int kernel_image;
  int builder_image;
  int backward;  // 1: of gradients
  int maps;      // 1: tensors are read through maps of the copy engine
  int lists;     // 1: key boxes come from lists
  int heads_differ;
  int sparse_lists;  // 1: a row has no more boxes than the table names
  int tile_q;
  int tile_k;
  int box_rows;
  int threads;
  int shared_bytes;
  int deterministic;  // 1: gradients have the same bits every time; those of arrays are refused
  int turns_of_tile;  // counters of who adds next to dQ of a query tile; 0: columns add as they come
  int builder_shared_bytes;
  int arrays_threads;  // of the kernel that makes gradients of what scores load; 0: there is none
  int arrays_shared_bytes;
  uint32_t score_scale_bits;  // of a float
  uint32_t slope_bits;        // likewise: of the score in q . k, where kernels of gradients fold it
  int has_schedule;           // 0: as the launch's lengths and the GPU's L2 suggest
  int heads_per_group;
  int split_tiles;
  int split_capacity;
} KernelFacts;

// dimension 0: longest query, 1: longest key, 2: batch x heads. Below `limit` the answer is node `below`, else node
// `above`. A leaf has dimension -1, and its kernel in `below`.
typedef struct TreeNode {
  int dimension;
  int64_t limit;
  int below;
  int above;
} TreeNode;

typedef enum TargetKind { kExactTarget, kFamilyTarget, kTextTarget } TargetKind;

// Kernels of one architecture: machine code for exactly this compute capability (sm_90a), for it and later ones of the
// same family (sm_80), or text that the driver compiles for any later one (compute_80).
typedef struct TargetFacts {
  const char* architecture;
  TargetKind kind;
  int capability;  // 80: 8.0
  const KernelFacts* kernels;
  int kernel_count;
  const TreeNode* tree;
} TargetFacts;

typedef struct WorkloadFacts {
  const char* name;
  int heads;
  int kv_heads;
  int head_dim;
  int value_dim;
  int bfloat16;  // 0: float16
  int pruned_as_zero;
  uint32_t padding_score_bits;
  int32_t integers[16];
  uint32_t float_bits[16];
  const ArrayFacts* arrays;
  int array_count;
  TableFacts table;
  const TargetFacts* targets;  // the best first
  int target_count;
} WorkloadFacts;

typedef struct ExportFacts {
  const Image* images;
  int image_count;
  const WorkloadFacts* workloads;
  int workload_count;
  int kernel_count;  // of all workloads and targets
} ExportFacts;

static const ExportFacts kExport;
