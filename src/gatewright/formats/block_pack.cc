// BlockValues to blocks. Every scale is searched by the squared error of what it gives; then it is rounded as
// the block holds it, and the quants are the nearest for the rounded scale.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/half.h"
#include "gatewright/formats/scale_search.h"

namespace gatewright {
namespace {

using BlockValues = std::span<const float>;

void store_half(uint8_t* bytes, uint16_t half) { std::memcpy(bytes, &half, sizeof half); }

/// The scale as a block holds it; `bytes` get its float16.
float stored_half(uint8_t* bytes, float scale) {
  const uint16_t half = float_to_half(scale);
  const float stored = half_to_float(half);
  require(std::isfinite(stored), "a value is too large to be quantised: the scale {} does not fit float16",
          scale);
  store_half(bytes, half);
  return stored;
}

/// Not 0 only when the scale is not.
float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

// --- blocks of 32 ---

void pack_q8_0(BlockValues x, BlockValues, uint8_t* block) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (size_t i = 0; i < 32; ++i) {
    const float magnitude = std::abs(x[i]);
    largest = magnitude > largest ? magnitude : largest;
  }
  const float inverse = inverse_of(stored_half(block, largest / 127));
  for (size_t i = 0; i < 32; ++i)
    block[2 + i] =
        static_cast<uint8_t>(static_cast<int8_t>(static_cast<int>(clamp_round(inverse * x[i], -127, 127))));
}

/// Quants of a block of 32 in [0, most].
std::array<uint8_t, 32> quants_of(BlockValues x, ScaleMin scale, float most) {
  std::array<uint8_t, 32> q;
  const float inverse = inverse_of(scale.scale);
  for (size_t i = 0; i < 32; ++i)
    q[i] = static_cast<uint8_t>(static_cast<int>(clamp_round(inverse * (x[i] - scale.min), 0, most)));
  return q;
}

void store_nibbles(uint8_t* bytes, const std::array<uint8_t, 32>& q) {
  for (size_t i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>((q[i] & 15) | (q[i + 16] & 15) << 4);
}

void store_fifth_bits(uint8_t* bytes, const std::array<uint8_t, 32>& q) {
  uint32_t bits = 0;
  for (size_t i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(q[i] >> 4) << i;
  std::memcpy(bytes, &bits, sizeof bits);
}

float as_half(float x) { return half_to_float(float_to_half(x)); }
ScaleMin as_half(ScaleMin s) { return {as_half(s.scale), as_half(s.min)}; }

/// The one of two that rounds better.
ScaleMin better_of(BlockValues x, BlockValues weight, ScaleMin first, ScaleMin second, float least,
                   float most) {
  const float error = rounding_error(x, weight, first, least, most);
  return rounding_error(x, weight, second, least, most) < error ? second : first;
}

/// Q4_0 and Q5_0 with importance: x = d (q - levels), d of least squares or the plain one.
template <int Levels>
float weighted_scale(BlockValues x, BlockValues weight) {
  constexpr float n = Levels;
  const auto [least, most] = std::ranges::minmax(x);
  const float plain = (-least > most ? least : most) / -n;
  return better_of(x, weight, {as_half(symmetric_scale(x, weight, Levels)), 0}, {as_half(plain), 0}, -n,
                   n - 1)
      .scale;
}

/// Without: of those that cut nothing, the one of least squares, made as long as the values.
template <int Levels>
float unweighted_scale(BlockValues x, BlockValues ones) {
  return unshrunk_scale(x, ones, symmetric_scale(x, ones, Levels, false), Levels);
}

template <int Levels, bool WithImportance>
void pack_symmetric(BlockValues x, BlockValues weight, uint8_t* block) {
  constexpr float n = Levels;
  const float scale =
      WithImportance ? weighted_scale<Levels>(x, weight) : unweighted_scale<Levels>(x, weight);
  const float d = stored_half(block, scale);
  const auto q = quants_of(x, {d, d * -n}, 2 * n - 1);
  if (Levels == 16) store_fifth_bits(block + 2, q);
  store_nibbles(block + (Levels == 16 ? 6 : 2), q);
}

/// Q4_1 and Q5_1: x = d q + m. The pair of least squares or the plain one.
template <int Levels>
void pack_asymmetric(BlockValues x, BlockValues weight, uint8_t* block) {
  const auto [least, most] = std::ranges::minmax(x);
  const ScaleMin plain = as_half({(most - least) / Levels, least});
  const ScaleMin best =
      better_of(x, weight, as_half(asymmetric_scale(x, weight, Levels, false)), plain, 0, Levels);
  const ScaleMin stored = {stored_half(block, best.scale), stored_half(block + 2, best.min)};
  const auto q = quants_of(x, stored, Levels);
  if (Levels == 31) store_fifth_bits(block + 4, q);
  store_nibbles(block + (Levels == 31 ? 8 : 4), q);
}

// --- blocks of 256 ---

/// Whole numbers from `least` to `most` within 1 of x.
std::pair<int, int> neighbours(float x, int least, int most) {
  const int nearest = static_cast<int>(clamp_round(x, static_cast<float>(least), static_cast<float>(most)));
  return {std::max(least, nearest - 1), std::min(most, nearest + 1)};
}

void pack_q6_k(BlockValues x, BlockValues weight, uint8_t* block) {
  float scales[16], largest = 0;
  for (size_t k = 0; k < 16; ++k) {
    scales[k] = symmetric_scale(x.subspan(16 * k, 16), weight.subspan(16 * k, 16), 32);
    if (std::abs(scales[k]) > std::abs(largest)) largest = scales[k];
  }
  const float d = stored_half(block + 208, largest / -128), inverse = inverse_of(d);
  uint8_t q[256];
  for (size_t k = 0; k < 16; ++k) {
    const BlockValues part = x.subspan(16 * k, 16), w = weight.subspan(16 * k, 16);
    const auto [first, last] = neighbours(inverse * scales[k], -128, 127);
    int best = first;
    float least = INFINITY;
    for (int s = first; s <= last; ++s) {
      const float error = rounding_error(part, w, {d * static_cast<float>(s), 0}, -32, 31);
      if (error < least) {
        least = error;
        best = s;
      }
    }
    block[192 + k] = static_cast<uint8_t>(static_cast<int8_t>(best));
    const float part_inverse = inverse_of(d * static_cast<float>(best));
    for (size_t i = 0; i < 16; ++i)
      q[16 * k + i] =
          static_cast<uint8_t>(static_cast<int>(clamp_round(part_inverse * part[i], -32, 31)) + 32);
  }
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* h = q + 128 * half;
    for (size_t i = 0; i < 64; ++i)
      block[64 * half + i] = static_cast<uint8_t>((h[i] & 15) | (h[i + 64] & 15) << 4);
    for (size_t i = 0; i < 32; ++i)
      block[128 + 32 * half + i] = static_cast<uint8_t>((h[i] >> 4) | (h[i + 32] >> 4) << 2 |
                                                        (h[i + 64] >> 4) << 4 | (h[i + 96] >> 4) << 6);
  }
}

/// The eight six-bit scales and mins in the 12 bytes of Q4_K and Q5_K.
void store_scales(uint8_t* s, const uint8_t* scale, const uint8_t* min) {
  for (size_t j = 0; j < 4; ++j) {
    s[j] = static_cast<uint8_t>(scale[j] | (scale[j + 4] >> 4) << 6);
    s[j + 4] = static_cast<uint8_t>(min[j] | (min[j + 4] >> 4) << 6);
    s[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

/// The pair of six-bit numbers near `wanted` with the least error.
std::pair<uint8_t, uint8_t> best_pair(BlockValues x, BlockValues weight, ScaleMin wanted, float d, float dmin,
                                      float most) {
  const auto [first, last] = neighbours(inverse_of(d) * wanted.scale, 0, 63);
  const auto [first_min, last_min] = neighbours(inverse_of(dmin) * -wanted.min, 0, 63);
  std::pair<uint8_t, uint8_t> best = {static_cast<uint8_t>(first), static_cast<uint8_t>(first_min)};
  float least = INFINITY;
  for (int s = first; s <= last; ++s) {
    for (int m = first_min; m <= last_min; ++m) {
      const float error =
          rounding_error(x, weight, {d * static_cast<float>(s), -dmin * static_cast<float>(m)}, 0, most);
      if (error < least) {
        least = error;
        best = {static_cast<uint8_t>(s), static_cast<uint8_t>(m)};
      }
    }
  }
  return best;
}

/// Q4_K and Q5_K: x = d scale q - dmin min in eight sub-blocks of 32.
template <int Levels>
void pack_k(BlockValues x, BlockValues weight, uint8_t* block) {
  ScaleMin found[8];
  float largest = 0, largest_min = 0;
  for (size_t j = 0; j < 8; ++j) {
    found[j] = asymmetric_scale(x.subspan(32 * j, 32), weight.subspan(32 * j, 32), Levels, true);
    largest = std::max(largest, found[j].scale);
    largest_min = std::max(largest_min, -found[j].min);
  }
  const float d = stored_half(block, largest / 63), dmin = stored_half(block + 2, largest_min / 63);
  uint8_t scale[8], min[8];
  std::array<uint8_t, 32> q[8];
  for (size_t j = 0; j < 8; ++j) {
    const BlockValues part = x.subspan(32 * j, 32);
    std::tie(scale[j], min[j]) = best_pair(part, weight.subspan(32 * j, 32), found[j], d, dmin, Levels);
    q[j] = quants_of(part, {d * static_cast<float>(scale[j]), -dmin * static_cast<float>(min[j])}, Levels);
  }
  store_scales(block + 4, scale, min);
  uint8_t* low = block + 16;
  if (Levels == 31) {
    for (size_t i = 0; i < 32; ++i) {
      low[i] = 0;
      for (size_t j = 0; j < 8; ++j) low[i] = static_cast<uint8_t>(low[i] | (q[j][i] >> 4) << j);
    }
    low += 32;
  }
  for (size_t j = 0; j < 8; ++j)
    for (size_t i = 0; i < 32; ++i)
      low[32 * (j / 2) + i] =
          static_cast<uint8_t>(j % 2 ? low[32 * (j / 2) + i] | (q[j][i] & 15) << 4 : q[j][i] & 15);
}

using PackBlock = void (*)(BlockValues x, BlockValues weight, uint8_t* block);

PackBlock pack_block_of(DataType type, bool with_importance) {
  switch (type) {
    case DataType::kQ4_0:
      return with_importance ? pack_symmetric<8, true> : pack_symmetric<8, false>;
    case DataType::kQ5_0:
      return with_importance ? pack_symmetric<16, true> : pack_symmetric<16, false>;
    case DataType::kQ4_1:
      return pack_asymmetric<15>;
    case DataType::kQ5_1:
      return pack_asymmetric<31>;
    case DataType::kQ8_0:
      return pack_q8_0;
    case DataType::kQ4_K:
      return pack_k<15>;
    case DataType::kQ5_K:
      return pack_k<31>;
    case DataType::kQ6_K:
      return pack_q6_k;
    default:
      return nullptr;
  }
}

bool all_finite(BlockValues values) {
  uint32_t infinite = 0;
  for (const float v : values) infinite |= (std::bit_cast<uint32_t>(v) & 0x7F800000U) == 0x7F800000U ? 1 : 0;
  return infinite == 0;
}

constexpr std::array<float, 256> kOnes = [] {
  std::array<float, 256> ones{};
  ones.fill(1);
  return ones;
}();

/// The importance of a block's columns; ones where it is not known or says that nothing matters.
BlockValues weights_of(BlockValues importance, size_t begin, size_t count) {
  if (importance.empty()) return BlockValues(kOnes).first(count);
  const BlockValues part = importance.subspan(begin, count);
  return std::ranges::any_of(part, [](float w) { return w > 0; }) ? part : BlockValues(kOnes).first(count);
}

void pack_16_bits(DataType type, BlockValues values, uint8_t* out) {
  bool too_large = false;
  for (size_t i = 0; i < values.size(); ++i) {
    const float x = values[i];
    const uint16_t bits = type == DataType::kF16 ? float_to_half(x) : float_to_bfloat(x);
    too_large |= type == DataType::kF16 && std::abs(x) >= 65520.0F && std::isfinite(x);
    std::memcpy(out + 2 * i, &bits, sizeof bits);
  }
  require(!too_large, "a value is too large for F16, which ends at 65504");
}

}  // namespace

bool can_pack(DataType type) {
  return type == DataType::kF32 || type == DataType::kF16 || type == DataType::kBF16 ||
         pack_block_of(type, false);
}

void pack(DataType type, std::span<const float> rows, int64_t row_length, std::span<const float> importance,
          std::span<std::byte> out) {
  const auto length = static_cast<size_t>(row_length), elements = static_cast<size_t>(block_elements(type)),
             bytes = static_cast<size_t>(block_bytes(type));
  require(can_pack(type), "{} is not written", data_type_name(type));
  require(row_length > 0 && rows.size() % length == 0 && length % elements == 0 &&
              out.size() == rows.size() / elements * bytes &&
              (importance.empty() || importance.size() == length),
          "rows of {} of {} values (importance: {}) can't be packed as {} into {} bytes", row_length,
          rows.size(), importance.size(), data_type_name(type), out.size());
  auto* to = reinterpret_cast<uint8_t*>(out.data());
  if (type == DataType::kF32) {
    std::memcpy(to, rows.data(), out.size());
    return;
  }
  const PackBlock pack_block = pack_block_of(type, !importance.empty());
  if (!pack_block) return pack_16_bits(type, rows, to);
  for (size_t row = 0; row < rows.size(); row += length) {
    const BlockValues x = rows.subspan(row, length);
    require(all_finite(x), "a row has values that are infinite or no numbers, which {} can't hold",
            data_type_name(type));
    for (size_t i = 0; i < length; i += elements, to += bytes)
      pack_block(x.subspan(i, elements), weights_of(importance, i, elements), to);
  }
}

}  // namespace gatewright
