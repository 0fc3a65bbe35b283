// Matrix instructions of a warp: ldmatrix, stmatrix, mma.m16n8k16.
#include <cstring>

#include "fibers.h"
#include "number_formats.h"
#include "warp_collectives.h"

#define EXPORT __attribute__((visibility("default")))

namespace harrier::emulated {
namespace {

using harrier_emulated::from_16_bits;

/// One lane's part of an ldmatrix or stmatrix. Lane l holds the address of row l % 8 of matrix l / 8.
struct Matrices {
  std::uint32_t address;
  unsigned* registers;
  int count;
  bool transposed;
};

struct Product {
  float* d;
  const unsigned* a;
  const unsigned* b;
  bool bfloat16;
};

template <class Part>
const Part& part(const std::uint64_t* values, int lane) {
  return *reinterpret_cast<const Part*>(values[lane]);
}

void load_together(const std::uint64_t* values, std::uint32_t) {
  const Matrices& first = part<Matrices>(values, 0);
  for (int matrix = 0; matrix < first.count; ++matrix) {
    std::uint16_t tile[8][8];
    for (int row = 0; row < 8; ++row) {
      std::memcpy(tile[row], shared_bytes_at(part<Matrices>(values, 8 * matrix + row).address, 16, 16, "ldmatrix"), 16);
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4, column = 2 * (lane % 4);
      const std::uint32_t low = first.transposed ? tile[column][row] : tile[row][column];
      const std::uint32_t high = first.transposed ? tile[column + 1][row] : tile[row][column + 1];
      part<Matrices>(values, lane).registers[matrix] = low | high << 16;
    }
  }
}

void store_together(const std::uint64_t* values, std::uint32_t) {
  const Matrices& first = part<Matrices>(values, 0);
  for (int matrix = 0; matrix < first.count; ++matrix) {
    for (int row = 0; row < 8; ++row) {
      unsigned char* place = shared_bytes_at(part<Matrices>(values, 8 * matrix + row).address, 16, 16, "stmatrix");
      for (int i = 0; i < 4 && !first.transposed; ++i) {
        std::memcpy(place + 4 * i, &part<Matrices>(values, 4 * row + i).registers[matrix], 4);
      }
      for (int column = 0; column < 8 && first.transposed; ++column) {
        const std::uint32_t pair = part<Matrices>(values, 4 * column + row / 2).registers[matrix];
        const auto value = static_cast<std::uint16_t>(pair >> (row % 2 * 16));
        std::memcpy(place + 2 * column, &value, 2);
      }
    }
  }
}

/// d += a b. Row g = lane / 4 and pair t = lane % 4 say which elements a lane holds.
void multiply_together(const std::uint64_t* values, std::uint32_t) {
  const bool bfloat16 = part<Product>(values, 0).bfloat16;
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Product& mine = part<Product>(values, lane);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      const auto value = [&](unsigned word) {
        return from_16_bits(static_cast<unsigned short>(word >> (16 * half)), bfloat16);
      };
      a[g][2 * t + half] = value(mine.a[0]);
      a[g + 8][2 * t + half] = value(mine.a[1]);
      a[g][2 * t + 8 + half] = value(mine.a[2]);
      a[g + 8][2 * t + 8 + half] = value(mine.a[3]);
      b[2 * t + half][g] = value(mine.b[0]);
      b[2 * t + 8 + half][g] = value(mine.b[1]);
    }
  }
  float d[16][8] = {};
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* mine = part<Product>(values, lane).d;
    for (int i = 0; i < 4; ++i) mine[i] += d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}

}  // namespace
}  // namespace harrier::emulated

using namespace harrier::emulated;

extern "C" {

EXPORT void harrier_emulated_load_matrices(unsigned address, unsigned* registers, int count, bool transposed) {
  const Matrices mine{address, registers, count, transposed};
  meet(kWholeWarp, transposed ? "ldmatrix.trans" : "ldmatrix", reinterpret_cast<std::uint64_t>(&mine), load_together);
}

EXPORT void harrier_emulated_store_matrices(unsigned address, const unsigned* registers, int count, bool transposed) {
  const Matrices mine{address, const_cast<unsigned*>(registers), count, transposed};
  meet(kWholeWarp, transposed ? "stmatrix.trans" : "stmatrix", reinterpret_cast<std::uint64_t>(&mine), store_together);
}

EXPORT void harrier_emulated_mma(float* d, const unsigned* a, const unsigned* b, bool bfloat16) {
  const Product mine{d, a, b, bfloat16};
  meet(kWholeWarp, "mma.m16n8k16", reinterpret_cast<std::uint64_t>(&mine), multiply_together);
}
}
