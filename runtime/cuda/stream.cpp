#include "runtime/cuda/stream.h"

namespace harrier::cuda {

OwnStream::OwnStream(DeviceHandle device) : device_(std::move(device)) {
  constexpr unsigned kNonBlocking = 1;
  const CurrentContext current(*device_);
  const Driver& driver = device_->driver();
  check(driver, driver.stream_create(&stream_, kNonBlocking), "making a stream");
}

OwnStream::~OwnStream() {
  const CurrentContext current(*device_, std::nothrow);
  if (!current) return;
  for (Event event : events_) {
    if (event != nullptr) device_->driver().event_destroy(event);
  }
  if (stream_ != nullptr) device_->driver().stream_destroy(stream_);
}

void OwnStream::synchronize() const {
  const CurrentContext current(*device_);
  check(device_->driver(), device_->driver().stream_synchronize(stream_), "waiting for the GPU");
}

void OwnStream::record(int event) {
  const CurrentContext current(*device_);
  const Driver& driver = device_->driver();
  if (events_[event] == nullptr) check(driver, driver.event_create(&events_[event], 0), "making an event");
  check(driver, driver.event_record(events_[event], stream_), "recording an event");
}

double OwnStream::elapsed_us() {
  synchronize();
  const CurrentContext current(*device_);
  float milliseconds = 0;
  check(device_->driver(), device_->driver().event_elapsed(&milliseconds, events_[0], events_[1]), "timing");
  return double{milliseconds} * 1e3;
}

}  // namespace harrier::cuda
