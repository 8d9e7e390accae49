// Arithmetic on sizes that come from outside: an overflow is an error, never a wrap.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "gatewright/base/error.h"

namespace gatewright {

template <std::integral T>
T checked_mul(T a, T b, std::string_view what) {
  T result;
  if (__builtin_mul_overflow(a, b, &result)) fail("{}: {} x {} does not fit", what, a, b);
  return result;
}

template <std::integral T>
T checked_add(T a, T b, std::string_view what) {
  T result;
  if (__builtin_add_overflow(a, b, &result)) fail("{}: {} + {} does not fit", what, a, b);
  return result;
}

/// Product of all dimensions; each must be positive or zero.
inline int64_t checked_product(std::span<const int64_t> shape, std::string_view what) {
  int64_t product = 1;
  for (int64_t d : shape) {
    if (d < 0) fail("{}: a dimension of {}", what, d);
    product = checked_mul(product, d, what);
  }
  return product;
}

/// The value in a narrower or differently signed type.
template <std::integral To, std::integral From>
To checked_cast(From value, std::string_view what) {
  if (!std::in_range<To>(value)) fail("{}: {} is out of range", what, value);
  return static_cast<To>(value);
}

}  // namespace gatewright
