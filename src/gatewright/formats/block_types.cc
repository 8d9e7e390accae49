#include "gatewright/formats/block_types.h"

#include <bit>
#include <cstring>

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/error.h"
#include "gatewright/formats/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/formats/block_types.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}
HWY_INLINE float half_at(const uint8_t* bytes) {
#if HWY_TARGET == HWY_SCALAR
  return half_to_float(load<uint16_t>(bytes));
#else
  const hn::CappedTag<float, 4> d;
  const hn::Rebind<uint16_t, decltype(d)> bits;
  const hn::Rebind<hwy::float16_t, decltype(d)> halves;
  return hn::GetLane(hn::PromoteTo(d, hn::BitCast(halves, hn::Set(bits, load<uint16_t>(bytes)))));
#endif
}

// Every packed type is unpacked in two steps: its codes to a byte each, and these times their scale.

template <int Count, typename Code, typename Scale>
HWY_INLINE void each_code(const Code* codes, float* x, const Scale& scale) {
  const hn::CappedTag<float, 16> d;
  const hn::Rebind<int32_t, decltype(d)> integers;
  const hn::Rebind<Code, decltype(d)> bytes;
  for (int i = 0; i < Count; i += static_cast<int>(hn::Lanes(d)))
    hn::StoreU(scale(hn::ConvertTo(d, hn::PromoteTo(integers, hn::LoadU(bytes, codes + i)))), d, x + i);
}

/// x[i] = a codes[i]
template <int Count, typename Code>
HWY_INLINE void scale_codes(const Code* codes, float a, float* x) {
  const auto factor = hn::Set(hn::CappedTag<float, 16>(), a);
  each_code<Count>(codes, x, [&](auto q) HWY_ATTR { return hn::Mul(factor, q); });
}

/// x[i] = a codes[i] + b
template <int Count, typename Code>
HWY_INLINE void scale_codes(const Code* codes, float a, float b, float* x) {
  const hn::CappedTag<float, 16> d;
  const auto factor = hn::Set(d, a), offset = hn::Set(d, b);
  each_code<Count>(codes, x, [&](auto q) HWY_ATTR { return hn::Add(hn::Mul(factor, q), offset); });
}

// --- blocks of 32 ---

/// Element i is in the low half of byte i, element i + 16 in the high half. With `high`, its bit i is the
/// fifth bit of element i. What stands for 0 is taken off.
template <int Zero, bool FiveBits>
HWY_INLINE void codes_of_32(const uint8_t* q, const uint8_t* high, int8_t* codes) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 32; ++i) {
    const int fifth = FiveBits ? (high[i / 8] >> (i % 8) & 1) << 4 : 0;
    codes[i] = static_cast<int8_t>((q[i % 16] >> (i < 16 ? 0 : 4) & 15) + fifth - Zero);
  }
#else
  const hn::FixedTag<uint8_t, 16> d;
  const hn::FixedTag<int8_t, 16> centred;
  const auto nibbles = hn::LoadU(d, q);
  const auto put = [&](auto four, const uint8_t* bits, int8_t* out) HWY_ATTR {
    if constexpr (FiveBits) {
      alignas(16) static constexpr uint8_t byte_of[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
      alignas(16) static constexpr uint8_t bit_of[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                                         1, 2, 4, 8, 16, 32, 64, 128};
      const auto both = hn::BitCast(d, hn::Set(hn::FixedTag<uint16_t, 8>(), load<uint16_t>(bits)));
      const auto spread = hn::TableLookupBytes(both, hn::Load(d, byte_of));
      four = hn::Or(four, hn::IfThenElseZero(hn::TestBit(spread, hn::Load(d, bit_of)), hn::Set(d, 16)));
    }
    hn::StoreU(hn::Sub(hn::BitCast(centred, four), hn::Set(centred, Zero)), centred, out);
  };
  put(hn::And(nibbles, hn::Set(d, 15)), high, codes);
  put(hn::ShiftRight<4>(nibbles), FiveBits ? high + 2 : nullptr, codes + 16);
#endif
}

/// codes[i] - zero, as signed bytes.
template <int Count>
HWY_INLINE void centre(const uint8_t* codes, int zero, int8_t* centred) {
  for (int i = 0; i < Count; ++i) centred[i] = static_cast<int8_t>(codes[i] - zero);
}

void unpack_q4_0(const uint8_t* block, float* x) {
  int8_t codes[32];
  codes_of_32<8, false>(block + 2, nullptr, codes);
  scale_codes<32>(codes, half_at(block), x);
}

void unpack_q4_1(const uint8_t* block, float* x) {
  int8_t codes[32];
  codes_of_32<0, false>(block + 4, nullptr, codes);
  scale_codes<32>(codes, half_at(block), half_at(block + 2), x);
}

void unpack_q5_0(const uint8_t* block, float* x) {
  int8_t codes[32];
  codes_of_32<16, true>(block + 6, block + 2, codes);
  scale_codes<32>(codes, half_at(block), x);
}

void unpack_q5_1(const uint8_t* block, float* x) {
  int8_t codes[32];
  codes_of_32<0, true>(block + 8, block + 4, codes);
  scale_codes<32>(codes, half_at(block), half_at(block + 2), x);
}

void unpack_q8_0(const uint8_t* block, float* x) {
  scale_codes<32>(reinterpret_cast<const int8_t*>(block + 2), half_at(block), x);
}

alignas(16) constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
alignas(16) constexpr int8_t kMxfp4Values[16] = {0, 1,  2,  3,  4,  6,  8,  12,  // doubled
                                                 0, -1, -2, -3, -4, -6, -8, -12};

HWY_INLINE void unpack_table(float d, const int8_t* table, const uint8_t* q, float* x) {
  int8_t values[32];
  codes_of_32<0, false>(q, nullptr, values);
#if HWY_TARGET == HWY_SCALAR
  for (int8_t& value : values) value = table[value];
#else
  const hn::FixedTag<int8_t, 16> bytes;
  const auto entries = hn::Load(bytes, table);
  for (int8_t* v : {values, values + 16})
    hn::StoreU(hn::TableLookupBytes(entries, hn::LoadU(bytes, v)), bytes, v);
#endif
  scale_codes<32>(values, d, x);
}

void unpack_iq4_nl(const uint8_t* block, float* x) { unpack_table(half_at(block), kIq4Values, block + 2, x); }

void unpack_mxfp4(const uint8_t* block, float* x) {
  // 2^(e - 128), which is subnormal for e below 2.
  const uint32_t e = block[0];
  const uint32_t bits = e < 2 ? 0x00200000U << e : (e - 1) << 23;
  unpack_table(std::bit_cast<float>(bits), kMxfp4Values, block + 1, x);
}

// --- blocks of 256 ---

/// Two bits for each of 256 elements: each 32 bytes hold 128 of them, in four layers.
HWY_INLINE void two_bits(const uint8_t* q, uint8_t* codes) {
  for (int half = 0; half < 2; ++half, q += 32, codes += 128) {
    for (int i = 0; i < 32; ++i) {
      codes[i] = q[i] & 3;
      codes[i + 32] = (q[i] >> 2) & 3;
      codes[i + 64] = (q[i] >> 4) & 3;
      codes[i + 96] = q[i] >> 6;
    }
  }
}

void unpack_q2_k(const uint8_t* block, float* x) {
  const float d = half_at(block + 80), dmin = half_at(block + 82);
  uint8_t codes[256];
  two_bits(block + 16, codes);
  for (int k = 0; k < 16; ++k)
    scale_codes<16>(codes + 16 * k, d * static_cast<float>(block[k] & 15),
                    -(dmin * static_cast<float>(block[k] >> 4)), x + 16 * k);
}

void unpack_q3_k(const uint8_t* block, float* x) {
  const uint8_t* scales = block + 96;
  const float d = half_at(block + 108);
  uint8_t codes[256];
  int8_t centred[256];
  two_bits(block + 32, codes);
  // The third bits: bit b of mask byte i is that of element 32 b + i; without it the value is 4 less.
  for (int b = 0; b < 8; ++b)
    for (int i = 0; i < 32; ++i)
      codes[32 * b + i] = static_cast<uint8_t>(codes[32 * b + i] | ((block[i] >> b) & 1) << 2);
  centre<256>(codes, 4, centred);
  for (int k = 0; k < 16; ++k) {
    const int low = k < 8 ? scales[k] & 15 : scales[k - 8] >> 4;
    const int high = (scales[8 + k % 4] >> (2 * (k / 4))) & 3;
    scale_codes<16>(centred + 16 * k, d * static_cast<float>((low | high << 4) - 32), x + 16 * k);
  }
}

struct ScaleAndMin {
  int scale, min;
};
/// The six-bit numbers of sub-block j out of the 12 bytes of Q4_K and Q5_K.
ScaleAndMin scale_and_min(const uint8_t* s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4};
}

/// The 256 codes of Q4_K and Q5_K by the scales and minima at the start of their block.
HWY_INLINE void scale_sub_blocks(const uint8_t* block, const uint8_t* codes, float* x) {
  const float d = half_at(block), dmin = half_at(block + 2);
  for (int j = 0; j < 8; ++j) {
    const auto [scale, min] = scale_and_min(block + 4, j);
    scale_codes<32>(codes + 32 * j, d * static_cast<float>(scale), -(dmin * static_cast<float>(min)),
                    x + 32 * j);
  }
}

/// Each 32 bytes hold 64 elements, the first half of them in the low nibbles.
HWY_INLINE void nibbles(const uint8_t* q, uint8_t* codes) {
  for (int part = 0; part < 4; ++part, q += 32, codes += 64) {
    for (int i = 0; i < 32; ++i) codes[i] = q[i] & 15;
    for (int i = 0; i < 32; ++i) codes[i + 32] = q[i] >> 4;
  }
}

void unpack_q4_k(const uint8_t* block, float* x) {
  uint8_t codes[256];
  nibbles(block + 16, codes);
  scale_sub_blocks(block, codes, x);
}

void unpack_q5_k(const uint8_t* block, float* x) {
  uint8_t codes[256];
  nibbles(block + 48, codes);
  const uint8_t* high = block + 16;
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 32; ++i)
      codes[32 * j + i] = static_cast<uint8_t>(codes[32 * j + i] | ((high[i] >> j) & 1) << 4);
  scale_sub_blocks(block, codes, x);
}

void unpack_q6_k(const uint8_t* block, float* x) {
  const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
  const float d = half_at(block + 208);
  uint8_t codes[256];
  int8_t centred[256];
  for (int half = 0; half < 2; ++half) {
    const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
    uint8_t* q = codes + 128 * half;
    for (int i = 0; i < 32; ++i) {
      q[i] = static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
      q[i + 32] = static_cast<uint8_t>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      q[i + 64] = static_cast<uint8_t>((low[i] >> 4) | (high[i] >> 4 & 3) << 4);
      q[i + 96] = static_cast<uint8_t>((low[i + 32] >> 4) | (high[i] >> 6) << 4);
    }
  }
  centre<256>(codes, 32, centred);
  for (int k = 0; k < 16; ++k)
    scale_codes<16>(centred + 16 * k, d * static_cast<float>(scales[k]), x + 16 * k);
}

using UnpackBlock = void (*)(const uint8_t* block, float* x);

template <UnpackBlock Block, int Elements, int Bytes>
void each_block(const uint8_t* blocks, std::span<float> values) {
  for (size_t i = 0; i < values.size() / Elements; ++i)
    Block(blocks + i * Bytes, values.data() + i * Elements);
}

template <typename T, typename Convert>
void each_value(const uint8_t* bytes, std::span<float> values, const Convert& convert) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = convert(load<T>(bytes + i * sizeof(T)));
}
template <typename T>
void each_value(const uint8_t* bytes, std::span<float> values) {
  each_value<T>(bytes, values, [](T value) { return static_cast<float>(value); });
}

}  // namespace

/// Of whole blocks, as many as the values need.
void unpack_blocks(DataType type, const uint8_t* in, std::span<float> values) {
  switch (type) {
    case DataType::kF64:
      return each_value<double>(in, values);
    case DataType::kF32:
      return each_value<float>(in, values);
    case DataType::kF16:
      return each_value<uint16_t>(in, values, [](uint16_t x) { return half_to_float(x); });
    case DataType::kBF16:
      return each_value<uint16_t>(in, values, [](uint16_t x) { return bfloat_to_float(x); });
    case DataType::kI64:
      return each_value<int64_t>(in, values);
    case DataType::kI32:
      return each_value<int32_t>(in, values);
    case DataType::kI16:
      return each_value<int16_t>(in, values);
    case DataType::kI8:
      return each_value<int8_t>(in, values);
    case DataType::kU8:
    case DataType::kBool:
      return each_value<uint8_t>(in, values);
    case DataType::kQ4_0:
      return each_block<unpack_q4_0, 32, 18>(in, values);
    case DataType::kQ4_1:
      return each_block<unpack_q4_1, 32, 20>(in, values);
    case DataType::kQ5_0:
      return each_block<unpack_q5_0, 32, 22>(in, values);
    case DataType::kQ5_1:
      return each_block<unpack_q5_1, 32, 24>(in, values);
    case DataType::kQ8_0:
      return each_block<unpack_q8_0, 32, 34>(in, values);
    case DataType::kQ2_K:
      return each_block<unpack_q2_k, 256, 84>(in, values);
    case DataType::kQ3_K:
      return each_block<unpack_q3_k, 256, 110>(in, values);
    case DataType::kQ4_K:
      return each_block<unpack_q4_k, 256, 144>(in, values);
    case DataType::kQ5_K:
      return each_block<unpack_q5_k, 256, 176>(in, values);
    case DataType::kQ6_K:
      return each_block<unpack_q6_k, 256, 210>(in, values);
    case DataType::kIQ4_NL:
      return each_block<unpack_iq4_nl, 32, 18>(in, values);
    case DataType::kMXFP4:
      return each_block<unpack_mxfp4, 32, 17>(in, values);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright {
HWY_EXPORT(unpack_blocks);

void unpack(DataType type, std::span<const std::byte> blocks, std::span<float> values) {
  const auto elements = static_cast<size_t>(block_elements(type)),
             bytes = static_cast<size_t>(block_bytes(type));
  require(values.size() % elements == 0 && blocks.size() == values.size() / elements * bytes,
          "{} values of {} can't be unpacked from {} bytes", values.size(), data_type_name(type),
          blocks.size());
  HWY_DYNAMIC_DISPATCH(unpack_blocks)(type, reinterpret_cast<const uint8_t*>(blocks.data()), values);
}

}  // namespace gatewright
#endif
