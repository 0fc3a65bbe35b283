// One line an error: the value, the limit, the remedy.
#pragma once

#include <stdarg.h>
#include <stdio.h>

#include "harrier_kernels.h"

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static int
fail(harrier_kernels_error* error, int code, const char* format, ...) {
  if (error != NULL) {
    va_list values;
    va_start(values, format);
    error->code = code;
    vsnprintf(error->message, sizeof error->message, format, values);
    va_end(values);
  }
  return code;
}

static int succeed(harrier_kernels_error* error) {
  if (error != NULL) {
    error->code = harrier_kernels_success;
    error->message[0] = '\0';
  }
  return harrier_kernels_success;
}
