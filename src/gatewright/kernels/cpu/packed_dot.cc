#include "gatewright/kernels/cpu/packed_dot.h"

#include <algorithm>
#include <array>

#include "gatewright/base/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/packed_dot.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/formats/block_types-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
namespace formats = gatewright::HWY_NAMESPACE;
using formats::BlockTag;
using formats::BlockVec;

HWY_INLINE float widened(float value) { return value; }
HWY_INLINE float widened(hwy::float16_t value) {
  uint16_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return half_to_float(bits);
}
HWY_INLINE float widened(hwy::bfloat16_t value) {
  uint16_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bfloat_to_float(bits);
}

/// Plain types are multiplied in pieces of 32, and what is left one by one.
template <typename T>
struct Plain {
  static constexpr int kElements = 32, kBytes = 32 * sizeof(T);
  static float value(const uint8_t* row, int64_t i) {
    T value;
    std::memcpy(&value, row + static_cast<size_t>(i) * sizeof value, sizeof value);
    return widened(value);
  }
};
template <typename Block>
inline constexpr bool kScalesApart = formats::kScalesApart<Block>;
template <typename T>
inline constexpr bool kScalesApart<Plain<T>> = false;
template <typename Block>
inline constexpr bool kPlain = false;
template <typename T>
inline constexpr bool kPlain<Plain<T>> = true;

template <typename T, typename Body>
HWY_INLINE void each_pair(Plain<T>, const uint8_t* block, const float*, const Body& body) {
  const BlockTag d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const auto values = [&](int i) HWY_ATTR {
    const auto* at = reinterpret_cast<const T*>(block) + i;
    if constexpr (sizeof(T) == sizeof(float)) {
      return hn::LoadU(d, at);
    } else {
#if HWY_TARGET == HWY_SCALAR
      return hn::Set(d, widened(*at));
#else
      return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, BlockTag>(), at));
#endif
    }
  };
  for (int i = 0; i < 32; i += 2 * lanes) body(i, values(i), values(i + lanes));
}
template <typename Block, typename Body>
HWY_INLINE void each_pair(Block, const uint8_t* block, const float* scales, const Body& body) {
  formats::each_pair<Block>(block, scales, body);
}

constexpr int64_t kMostTokens = 4, kMostRows = 4;
/// Weight rows at once, so that there are sums enough to hide the latency of a multiply-add.
constexpr int rows_for(int tokens) { return tokens == 1 ? 4 : tokens == 2 ? 2 : 1; }

/// Tokens of a, [Tokens, columns], times rows of b; sums[r][t].
template <typename Block, int Tokens>
HWY_NOINLINE void multiply(const float* a, int64_t columns, const std::array<const uint8_t*, kMostRows>& rows,
                           int64_t ahead, float (*sums)[kMostTokens]) {
  constexpr int kRows = rows_for(Tokens);
  const BlockTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  BlockVec even[kRows][Tokens], odd[kRows][Tokens];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) even[r][t] = odd[r][t] = hn::Zero(d);
  }
  const int64_t count = columns / Block::kElements;
  constexpr int64_t kChunk = 32;  // blocks whose scales are read at once
  alignas(64) float scales[kRows][kScalesApart<Block> ? 2 * kChunk : 1];
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (kScalesApart<Block>) {
      if (i % kChunk == 0) {
        for (int r = 0; r < kRows; ++r)
          Block::scales(rows[r] + i * Block::kBytes, static_cast<int>(std::min(kChunk, count - i)),
                        scales[r]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* block = rows[r] + i * Block::kBytes;
      for (int line = 0; line < Block::kBytes; line += 64) __builtin_prefetch(block + ahead + line);
      const float* apart = scales[r] + (kScalesApart<Block> ? 2 * (i % kChunk) : 0);
      each_pair(Block(), block, apart, [&](int e, BlockVec first, BlockVec second) HWY_ATTR {
        const float* x = a + i * Block::kElements + e;
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t, x += columns) {
          even[r][t] = hn::MulAdd(first, hn::LoadU(d, x), even[r][t]);
          odd[r][t] = hn::MulAdd(second, hn::LoadU(d, x + lanes), odd[r][t]);
        }
      });
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even[r][t], odd[r][t])));
      if constexpr (kPlain<Block>) {
        for (int64_t q = count * Block::kElements; q < columns; ++q)
          sum = sum + Block::value(rows[r], q) * a[t * columns + q];
      }
      sums[r][t] = sum;
    }
  }
}

template <typename Block, int Tokens>
void multiply_rows(const float* a, const PackedRows& b, int64_t row_bytes, int64_t begin, int64_t end,
                   float* c) {
  constexpr int64_t kRows = rows_for(Tokens);
  for (int64_t r = begin; r < end; r += kRows) {
    const int64_t here = std::min(kRows, end - r);
    std::array<const uint8_t*, kMostRows> rows{};
    float sums[kMostRows][kMostTokens];
    // Where there are fewer rows, the last one is multiplied again.
    for (int64_t i = 0; i < kRows; ++i)
      rows[static_cast<size_t>(i)] =
          reinterpret_cast<const uint8_t*>(b.data) + (r + std::min(i, here - 1)) * row_bytes;
    multiply<Block, Tokens>(a, b.columns, rows, kRows * row_bytes, sums);
    for (int64_t i = 0; i < here; ++i)
      for (int64_t t = 0; t < Tokens; ++t) c[t * b.rows + r + i] = sums[i][t];
  }
}

template <typename Block>
void multiply_block_type(int64_t m, const float* a, const PackedRows& b, int64_t begin, int64_t end,
                         float* c) {
  const int64_t row_bytes = b.columns / block_elements(b.type) * block_bytes(b.type);
  // Few rows of b for all of a's, so that they are read from memory once.
  constexpr int64_t kRowsAtOnce = 16;
  for (int64_t r = begin; r < end; r += kRowsAtOnce) {
    const int64_t last = std::min(end, r + kRowsAtOnce);
    for (int64_t t = 0; t < m; t += kMostTokens) {
      const float* x = a + t * b.columns;
      float* out = c + t * b.rows;
      switch (std::min(kMostTokens, m - t)) {
        case 1:
          multiply_rows<Block, 1>(x, b, row_bytes, r, last, out);
          break;
        case 2:
          multiply_rows<Block, 2>(x, b, row_bytes, r, last, out);
          break;
        case 3:
          multiply_rows<Block, 3>(x, b, row_bytes, r, last, out);
          break;
        default:
          multiply_rows<Block, 4>(x, b, row_bytes, r, last, out);
      }
    }
  }
}

}  // namespace

void dot_any(int64_t m, const float* a, const PackedRows& b, int64_t begin, int64_t end, float* c) {
  switch (b.type) {
    case DataType::kF32:
      return multiply_block_type<Plain<float>>(m, a, b, begin, end, c);
    case DataType::kF16:
      return multiply_block_type<Plain<hwy::float16_t>>(m, a, b, begin, end, c);
    case DataType::kBF16:
      return multiply_block_type<Plain<hwy::bfloat16_t>>(m, a, b, begin, end, c);
    case DataType::kQ4_0:
      return multiply_block_type<formats::Q4_0>(m, a, b, begin, end, c);
    case DataType::kQ4_1:
      return multiply_block_type<formats::Q4_1>(m, a, b, begin, end, c);
    case DataType::kQ5_0:
      return multiply_block_type<formats::Q5_0>(m, a, b, begin, end, c);
    case DataType::kQ5_1:
      return multiply_block_type<formats::Q5_1>(m, a, b, begin, end, c);
    case DataType::kQ8_0:
      return multiply_block_type<formats::Q8_0>(m, a, b, begin, end, c);
    case DataType::kQ2_K:
      return multiply_block_type<formats::Q2_K>(m, a, b, begin, end, c);
    case DataType::kQ3_K:
      return multiply_block_type<formats::Q3_K>(m, a, b, begin, end, c);
    case DataType::kQ4_K:
      return multiply_block_type<formats::Q4_K>(m, a, b, begin, end, c);
    case DataType::kQ5_K:
      return multiply_block_type<formats::Q5_K>(m, a, b, begin, end, c);
    case DataType::kQ6_K:
      return multiply_block_type<formats::Q6_K>(m, a, b, begin, end, c);
    case DataType::kIQ4_NL:
      return multiply_block_type<formats::IQ4_NL>(m, a, b, begin, end, c);
    case DataType::kMXFP4:
      return multiply_block_type<formats::MXFP4>(m, a, b, begin, end, c);
    case DataType::kF64:
    case DataType::kI64:
    case DataType::kI32:
    case DataType::kI16:
    case DataType::kI8:
    case DataType::kU8:
    case DataType::kBool:
      break;  // see has_packed_dot
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(dot_any);

bool has_packed_dot(DataType type) {
  return is_packed(type) || type == DataType::kF32 || type == DataType::kF16 || type == DataType::kBF16;
}

void packed_dot(int64_t m, const float* a, const PackedRows& b, int64_t begin, int64_t end, float* c) {
  HWY_DYNAMIC_DISPATCH(dot_any)(m, a, b, begin, end, c);
}

}  // namespace gatewright::kernels
#endif
