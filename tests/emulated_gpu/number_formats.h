// 16-bit floats as fp32 and back, rounded to nearest even as the device does.
#pragma once

namespace harrier_emulated {

inline unsigned bits_of(float value) {
  unsigned bits;
  __builtin_memcpy(&bits, &value, 4);
  return bits;
}

inline float float_of(unsigned bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

inline float from_bfloat16(unsigned short value) { return float_of(static_cast<unsigned>(value) << 16); }

inline unsigned short to_bfloat16(float value) {
  if (value != value) return 0x7fff;
  const unsigned bits = bits_of(value);
  return static_cast<unsigned short>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float from_float16(unsigned short value) {
  const unsigned sign = (value & 0x8000u) << 16;
  const unsigned exponent = (value >> 10) & 31;
  const unsigned fraction = value & 0x3ffu;
  if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return float_of(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * float_of(0x33800000u);  // 2^-24
  return sign != 0 ? -magnitude : magnitude;
}

inline unsigned short to_float16(float value) {
  if (value != value) return 0x7fff;
  const unsigned bits = bits_of(value);
  const unsigned sign = (bits >> 16) & 0x8000u;
  const unsigned magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) return static_cast<unsigned short>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded by the addition itself.
    const float shifted = float_of(magnitude) + 0.5f;
    return static_cast<unsigned short>(sign | (bits_of(shifted) - 0x3f000000u));
  }
  const unsigned rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<unsigned short>(sign | ((rounded - 0x38000000u) >> 13));
}

inline float from_16_bits(unsigned short value, bool bfloat16) {
  return bfloat16 ? from_bfloat16(value) : from_float16(value);
}

}  // namespace harrier_emulated
