// A stream of our own, and the time that work on it takes.
#pragma once

#include "runtime/cuda/device.h"

namespace harrier::cuda {

/// Waits for no other stream, and no other stream waits for it.
class OwnStream {
 public:
  /// Throws DeviceError.
  explicit OwnStream(DeviceHandle device);
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  Stream get() const { return stream_; }

  /// Returns once everything enqueued has run. Throws DeviceError for what failed meanwhile.
  void synchronize() const;

  /// Microseconds on the device that `work`, which enqueues on this stream, takes. Synchronizes.
  template <typename Work>
  double time(Work&& work) {
    record(0);
    work();
    record(1);
    return elapsed_us();
  }

 private:
  void record(int event);
  double elapsed_us();

  DeviceHandle device_;
  Stream stream_ = nullptr;
  Event events_[2] = {nullptr, nullptr};
};

}  // namespace harrier::cuda
