// The two 16-bit floating-point types of weights: float16 (IEEE 754) and bfloat16 (the upper half of a
// float).
#pragma once

#include <bit>
#include <cstdint>

namespace gatewright {

/// Exact.
inline float half_to_float(uint16_t half) {
  const uint32_t sign = (half & 0x8000U) << 16;
  const uint32_t rest = (half & 0x7FFFU) << 13;
  // The exponents' biases differ by 112; the product is exact for subnormal values, too.
  const uint32_t bits = std::bit_cast<uint32_t>(std::bit_cast<float>(rest) * 0x1p112F);
  const uint32_t infinite = rest >= 0x0F800000U ? 0x7F800000U : 0;  // infinity and NaN
  return std::bit_cast<float>(sign | bits | infinite);
}

/// To the nearest, ties to even; beyond 65504 to infinity.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000U, magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);   // NaN
  if (magnitude >= 0x47800000U) return static_cast<uint16_t>(sign | 0x7C00U);  // from 65536 on
  if (magnitude < 0x38800000U) {
    // Subnormal: in floats from 0.5 on the last bit is 2^-24, the least float16.
    const uint32_t rounded = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U;
    return static_cast<uint16_t>(sign | rounded);
  }
  const uint32_t rounded = magnitude - 0x38000000U + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

inline float bfloat_to_float(uint16_t bfloat) { return std::bit_cast<float>(uint32_t{bfloat} << 16); }

/// To the nearest, ties to even.
inline uint16_t float_to_bfloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);  // NaN
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace gatewright
