// Machine code onto the GPU: for each workload the first of its targets that loads.
#pragma once

#include "launch_plan.h"

static int find_entry(const Driver* driver, void* module, const char* name, int shared_bytes, void** function) {
  enum { kWithoutAsking = 48 * 1024 };
  const int result = driver->module_function(function, module, name);
  if (result != kCudaSuccess || shared_bytes <= kWithoutAsking) return result;
  return driver->function_set(*function, kMaxDynamicSharedBytes, shared_bytes);
}

static void unload_kernel(const Driver* driver, const LoadedKernel* kernel) {
  if (kernel->kernel_module != NULL) driver->module_unload(kernel->kernel_module);
  if (kernel->builder_module != NULL) driver->module_unload(kernel->builder_module);
}

// How many CTAs of a kernel run at a time. A CUresult.
static int count_ctas(const harrier_kernels* kernels, void* function, int threads, int shared_bytes, int* most) {
  int ctas = 0;
  const int result = kernels->driver.occupancy(&ctas, function, threads, (size_t)shared_bytes);
  *most = ctas * kernels->multiprocessors;
  return !result && ctas < 1 ? kCudaLaunchOutOfResources : result;
}

typedef struct Entry {
  void* module;
  const char* name;
  int shared_bytes;
  void** function;
} Entry;

static int find_entries(const Driver* driver, const Entry* entries, int count) {
  int result = 0;
  for (int i = 0; i < count && !result; ++i) {
    const Entry* entry = &entries[i];
    if (entry->name == NULL) continue;
    result = find_entry(driver, entry->module, entry->name, entry->shared_bytes, entry->function);
  }
  return result;
}

static int find_forward(const harrier_kernels* kernels, const KernelFacts* facts, LoadedKernel* kernel) {
  const Entry entries[] = {{kernel->kernel_module, "harrier_forward", facts->shared_bytes, &kernel->forward},
                           {kernel->builder_module, "harrier_combine", 0, &kernel->combine}};
  const int result = find_entries(&kernels->driver, entries, 2);
  if (result) return result;
  return count_ctas(kernels, kernel->forward, facts->threads, facts->shared_bytes, &kernel->most_ctas);
}

static int find_backward(const harrier_kernels* kernels, const KernelFacts* facts, LoadedKernel* kernel) {
  void* const module = kernel->kernel_module;
  void* const builder = kernel->builder_module;
  const int bytes = facts->shared_bytes, threads = facts->threads, learns = facts->arrays_threads > 0;
  const Entry entries[] = {
      {module, "harrier_backward_stats", 0, &kernel->stats},
      {module, "harrier_backward_columns", bytes, &kernel->columns},
      {module, learns ? "harrier_backward_arrays" : NULL, facts->arrays_shared_bytes, &kernel->arrays},
      {module, "harrier_join_columns", 0, &kernel->join_columns},
      {module, facts->maps ? "harrier_backward_queries" : NULL, 0, &kernel->queries},
      {module, facts->maps ? NULL : "harrier_backward_rows", bytes, &kernel->rows},
      {module, facts->maps ? NULL : "harrier_join_rows", 0, &kernel->join_rows},
      {builder, facts->lists ? "harrier_transpose_lists" : NULL, 0, &kernel->transpose_lists},
      {builder, "harrier_measure_columns", 0, &kernel->measure_columns},
      {builder, facts->turns_of_tile ? "harrier_cut_columns" : NULL, 0, &kernel->cut_columns},
      {builder, "harrier_order_columns", 0, &kernel->order_columns}};
  int result = find_entries(&kernels->driver, entries, (int)(sizeof entries / sizeof entries[0]));
  if (!result) result = count_ctas(kernels, kernel->columns, threads, bytes, &kernel->most_ctas);
  if (!result && !facts->maps) result = count_ctas(kernels, kernel->rows, threads, bytes, &kernel->most_row_ctas);
  if (!result && learns) {
    result = count_ctas(kernels, kernel->arrays, facts->arrays_threads, facts->arrays_shared_bytes,
                        &kernel->most_array_ctas);
  }
  return result;
}

// A CUresult: what the driver says of the kernel's machine code.
static int load_kernel(const harrier_kernels* kernels, const KernelFacts* facts, LoadedKernel* kernel) {
  const Driver* driver = &kernels->driver;
  memset(kernel, 0, sizeof *kernel);
  kernel->facts = facts;
  const Image* image = &kExport.images[facts->kernel_image];
  const Image* builder = &kExport.images[facts->builder_image];
  int result = driver->module_load(&kernel->kernel_module, image->words, 0, NULL, NULL);
  if (!result) result = driver->module_load(&kernel->builder_module, builder->words, 0, NULL, NULL);
  if (!result) {
    void* const module = kernel->builder_module;
    const Entry entries[] = {{module, facts->lists ? "harrier_build_lists" : NULL, 0, &kernel->build_lists},
                             {module, "harrier_measure_rows", 0, &kernel->measure_rows},
                             {module, "harrier_cut_rows", 0, &kernel->cut_rows},
                             {module, "harrier_order_rows", 0, &kernel->order_rows}};
    result = find_entries(driver, entries, 4);
  }
  if (!result) result = (facts->backward ? find_backward : find_forward)(kernels, facts, kernel);
  if (result) {
    unload_kernel(driver, kernel);
    memset(kernel, 0, sizeof *kernel);
  }
  return result;
}

static int fits_target(const TargetFacts* target, int capability) {
  if (target->kind == kExactTarget) return target->capability == capability;
  if (target->kind == kTextTarget) return target->capability <= capability;
  return target->capability / 10 == capability / 10 && target->capability <= capability;
}

// All kernels of a target, or none.
static int load_target(const harrier_kernels* kernels, const TargetFacts* target, LoadedKernel* loaded) {
  for (int i = 0; i < target->kernel_count; ++i) {
    const int result = load_kernel(kernels, &target->kernels[i], &loaded[i]);
    if (!result) continue;
    while (i-- > 0) unload_kernel(&kernels->driver, &loaded[i]);
    return result;
  }
  return kCudaSuccess;
}

// What the driver refuses is passed over, for a later target may do: text where machine code is for another GPU.
static int load_workload(harrier_kernels* kernels, const WorkloadFacts* workload, int capability, LoadedTarget* found,
                         harrier_kernels_error* error) {
  int refusal = kCudaNoBinaryForGpu;
  for (int i = 0; i < workload->target_count; ++i) {
    const TargetFacts* target = &workload->targets[i];
    if (!fits_target(target, capability)) continue;
    LoadedKernel* const first = kernels->kernels + kernels->kernel_count;
    refusal = load_target(kernels, target, first);
    if (refusal == kCudaSuccess) {
      found->facts = target;
      found->kernels = first;
      kernels->kernel_count += target->kernel_count;
      return harrier_kernels_success;
    }
    if (!is_of_image(refusal) && refusal != kCudaLaunchOutOfResources) {
      return check(&kernels->driver, refusal, "loading machine code", error);
    }
  }
  const int unsupported = refusal == kCudaNoBinaryForGpu || refusal == kCudaUnsupportedPtxVersion;
  return fail(error, unsupported ? harrier_kernels_unsupported : harrier_kernels_bad_image,
              "no kernel of %.48s here loads on %s, compute capability %d.%d (%s): export it with --arch sm_%d, or "
              "with compute_80 for any GPU",
              workload->name, kernels->name, capability / 10, capability % 10,
              name_of_result(&kernels->driver, refusal), capability);
}

static int open_device(harrier_kernels* kernels, int ordinal, int* capability, harrier_kernels_error* error) {
  const Driver* driver = &kernels->driver;
  int count = 0;
  int code = check(driver, driver->device_count(&count), "the number of GPUs", error);
  if (code) return code;
  if (ordinal < 0 || ordinal >= count) {
    return fail(error, harrier_kernels_no_device, "there is no GPU %d: this process sees %d, numbered from 0", ordinal,
                count);
  }
  kernels->ordinal = ordinal;
  code = check(driver, driver->device_get(&kernels->device, ordinal), "opening the GPU", error);
  if (!code) {
    code = check(driver, driver->device_name(kernels->name, (int)sizeof kernels->name, kernels->device),
                 "the GPU's name", error);
  }
  const int attributes[] = {kCapabilityMajor, kCapabilityMinor, kMultiprocessorCount, kL2CacheBytes};
  int values[4] = {0, 0, 0, 0};
  for (int i = 0; i < 4 && !code; ++i) {
    code =
        check(driver, driver->device_attribute(&values[i], attributes[i], kernels->device), "the GPU's facts", error);
  }
  *capability = 10 * values[0] + values[1];
  kernels->multiprocessors = values[2];
  kernels->l2_bytes = values[3];
  return code;
}

// Makes the kernels' context current where it is not; leave_context gives the one before back.
static int enter_context(const harrier_kernels* kernels, int* pushed, harrier_kernels_error* error) {
  void* current = NULL;
  *pushed = 0;
  int code = check(&kernels->driver, kernels->driver.context_current(&current), "the current context", error);
  if (code || current == kernels->context) return code;
  code = check(&kernels->driver, kernels->driver.context_push(kernels->context), "making the GPU current", error);
  *pushed = !code;
  return code;
}

static void leave_context(const harrier_kernels* kernels, int pushed) {
  void* popped = NULL;
  if (pushed) kernels->driver.context_pop(&popped);
}
