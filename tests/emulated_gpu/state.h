// What driver functions share: contexts, and what every function does first.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "driver_api.h"

#define HARRIER_EXPORT extern "C" __attribute__((visibility("default")))

struct CUctx_st {
  int device = 0;
  int retained = 0;
  CUresult sticky = CUDA_SUCCESS;  // what a launch did to the context; all later calls return it
};

struct CUevent_st;

/// Work that a stream records instead of running it.
struct Capture {
  std::vector<std::function<CUresult()>> nodes;
  CUstream origin = nullptr;
  int mode = 0;  // whom it keeps from unsafe calls: 0 = all threads, 1 = the one that captures, 2 = none
  std::thread::id thread;
  bool invalid = false;
};

struct CUstream_st {
  std::shared_ptr<Capture> capture;
};

namespace harrier::emulated {

/// What the device has.
inline constexpr std::size_t kTotalBytes = std::size_t{8} << 30;

/// Which of the usual conditions a function needs.
enum class Needs { kNothing, kInitialised, kContext };

/// What `function` has to return before it does anything; CUDA_SUCCESS to go on.
CUresult enter(const char* function, Needs needs);

/// The calling thread's context; there is one after enter(..., kContext).
CUcontext current_context();

/// Of the current context's device.
int device_attribute(int attribute);

/// Runs `work` now, or records it where the stream is being captured. Null streams are the default stream.
CUresult run_or_record(CUstream stream, std::function<CUresult()> work);

/// What a call that must not happen while a capture of the process is under way returns; it spoils the captures.
CUresult refuse_in_capture();

}  // namespace harrier::emulated

#define HARRIER_ENTER(NEEDS) \
  if (const CUresult entered = harrier::emulated::enter(__func__, NEEDS); entered != 0) return entered
