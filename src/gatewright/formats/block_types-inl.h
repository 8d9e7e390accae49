// How the blocks of GGUF's packed types are read. Every type is values = scale x code (+ minimum), with codes
// of a byte and a scale for each 16 or 32 of them; here is what a block's codes and scales are, and two
// vectors of its values at a time for whoever stores them or multiplies with them. Compiled once for each
// Highway target.
#if defined(GATEWRIGHT_FORMATS_BLOCK_TYPES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_FORMATS_BLOCK_TYPES_INL_H_
#undef GATEWRIGHT_FORMATS_BLOCK_TYPES_INL_H_
#else
#define GATEWRIGHT_FORMATS_BLOCK_TYPES_INL_H_
#endif

#include <bit>
#include <cstdint>
#include <cstring>

#include "gatewright/formats/half.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using BlockTag = hn::CappedTag<float, 16>;
using BlockVec = hn::Vec<BlockTag>;

template <typename T>
HWY_INLINE T load_as(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

HWY_INLINE float half_at(const uint8_t* bytes) {
#if HWY_TARGET == HWY_SCALAR
  return half_to_float(load_as<uint16_t>(bytes));
#else
  const hn::CappedTag<float, 4> d;
  const hn::Rebind<uint16_t, decltype(d)> bits;
  const hn::Rebind<hwy::float16_t, decltype(d)> halves;
  return hn::GetLane(hn::PromoteTo(d, hn::BitCast(halves, hn::Set(bits, load_as<uint16_t>(bytes)))));
#endif
}

/// What a type's block is. `Code` is a code's byte; kScaled codes share a scale, and, with kMinima, a
/// minimum.
template <int Elements, int Bytes, int Scaled, bool Minima, typename CodeByte>
struct BlockShape {
  static constexpr int kElements = Elements, kBytes = Bytes, kScaled = Scaled;
  static constexpr bool kMinima = Minima;
  using Code = CodeByte;
};

/// Scale and minimum of each sub-block, in turns.
inline constexpr int kMostScales = 32;

/// A type whose blocks begin with their scale and, with minima, their minimum, as halves. Those of `count`
/// blocks go to scales[2 i] and scales[2 i + 1]: converted four at a time, for one by one each would take as
/// long as its block's products. Blocks beyond are not read; scales has room for a multiple of four.
template <typename Block>
HWY_INLINE void leading_halves(const uint8_t* block, int count, float* scales) {
#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE
  for (int i = 0; i < count; ++i, block += Block::kBytes) {
    scales[2 * i] = half_at(block);
    scales[2 * i + 1] = half_at(block + 2);
  }
#else
  const hn::CappedTag<float, 8> d;
  const hn::Rebind<uint16_t, decltype(d)> bits;
  const hn::Rebind<hwy::float16_t, decltype(d)> halves;
  constexpr int kAtOnce = static_cast<int>(hn::MaxLanes(d) / 2);
  for (int i = 0; i < count; i += kAtOnce) {
    uint32_t both[kAtOnce];
    for (int j = 0; j < kAtOnce; ++j)
      both[j] = load_as<uint32_t>(block + HWY_MIN(i + j, count - 1) * Block::kBytes);
    const auto pairs = hn::LoadU(bits, reinterpret_cast<const uint16_t*>(both));
    hn::StoreU(hn::PromoteTo(d, hn::BitCast(halves, pairs)), d, scales + 2 * i);
  }
#endif
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
      const auto both = hn::BitCast(d, hn::Set(hn::FixedTag<uint16_t, 8>(), load_as<uint16_t>(bits)));
      const auto spread = hn::TableLookupBytes(both, hn::Load(d, byte_of));
      four = hn::Or(four, hn::IfThenElseZero(hn::TestBit(spread, hn::Load(d, bit_of)), hn::Set(d, 16)));
    }
    hn::StoreU(hn::Sub(hn::BitCast(centred, four), hn::Set(centred, Zero)), centred, out);
  };
  put(hn::And(nibbles, hn::Set(d, 15)), high, codes);
  put(hn::ShiftRight<4>(nibbles), FiveBits ? high + 2 : nullptr, codes + 16);
#endif
}

// These give the scales of several blocks, and the codes of one. What four bits stand for may be a table.

struct Q4_0 : BlockShape<32, 18, 32, false, int8_t> {
  static constexpr float kTable[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
  static HWY_INLINE void scales(const uint8_t* block, int count, float* scales) {
    leading_halves<Q4_0>(block, count, scales);
  }
  static HWY_INLINE void codes(const uint8_t* block, int8_t* out) {
    codes_of_32<8, false>(block + 2, nullptr, out);
  }
};

struct Q4_1 : BlockShape<32, 20, 32, true, int8_t> {
  static constexpr float kTable[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static HWY_INLINE void scales(const uint8_t* block, int count, float* scales) {
    leading_halves<Q4_1>(block, count, scales);
  }
  static HWY_INLINE void codes(const uint8_t* block, int8_t* out) {
    codes_of_32<0, false>(block + 4, nullptr, out);
  }
};

struct Q5_0 : BlockShape<32, 22, 32, false, int8_t> {
  static HWY_INLINE void scales(const uint8_t* block, int count, float* scales) {
    leading_halves<Q5_0>(block, count, scales);
  }
  static HWY_INLINE void codes(const uint8_t* block, int8_t* out) {
    codes_of_32<16, true>(block + 6, block + 2, out);
  }
};

struct Q5_1 : BlockShape<32, 24, 32, true, int8_t> {
  static HWY_INLINE void scales(const uint8_t* block, int count, float* scales) {
    leading_halves<Q5_1>(block, count, scales);
  }
  static HWY_INLINE void codes(const uint8_t* block, int8_t* out) {
    codes_of_32<0, true>(block + 8, block + 4, out);
  }
};

struct Q8_0 : BlockShape<32, 34, 32, false, int8_t> {
  static HWY_INLINE void scales(const uint8_t* block, int count, float* scales) {
    leading_halves<Q8_0>(block, count, scales);
  }
  static HWY_INLINE void codes(const uint8_t* block, int8_t* out) { std::memcpy(out, block + 2, 32); }
};

HWY_INLINE void codes_of_table(const float* values, const uint8_t* q, int8_t* codes) {
  codes_of_32<0, false>(q, nullptr, codes);
  alignas(16) int8_t table[16];
  for (int i = 0; i < 16; ++i) table[i] = static_cast<int8_t>(values[i]);
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 32; ++i) codes[i] = table[codes[i]];
#else
  const hn::FixedTag<int8_t, 16> bytes;
  const auto entries = hn::Load(bytes, table);
  for (int8_t* v : {codes, codes + 16})
    hn::StoreU(hn::TableLookupBytes(entries, hn::LoadU(bytes, v)), bytes, v);
#endif
}

struct IQ4_NL : BlockShape<32, 18, 32, false, int8_t> {
  static constexpr float kTable[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
  static HWY_INLINE void scales(const uint8_t* block, int count, float* scales) {
    leading_halves<IQ4_NL>(block, count, scales);
  }
  static HWY_INLINE void codes(const uint8_t* block, int8_t* out) { codes_of_table(kTable, block + 2, out); }
};

struct MXFP4 : BlockShape<32, 17, 32, false, int8_t> {
  static constexpr float kTable[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // doubled
  /// 2^(e - 128), which is subnormal for e below 2.
  static HWY_INLINE void scales(const uint8_t* block, int count, float* scales) {
    for (int i = 0; i < count; ++i) {
      const uint32_t e = block[i * kBytes];
      scales[2 * i] = std::bit_cast<float>(e < 2 ? 0x00200000U << e : (e - 1) << 23);
    }
  }
  static HWY_INLINE void codes(const uint8_t* block, int8_t* out) { codes_of_table(kTable, block + 1, out); }
};

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

/// codes[i] - zero, as signed bytes.
template <int Count>
HWY_INLINE void centre(const uint8_t* codes, int zero, int8_t* centred) {
  for (int i = 0; i < Count; ++i) centred[i] = static_cast<int8_t>(codes[i] - zero);
}

struct Q2_K : BlockShape<256, 84, 16, true, uint8_t> {
  static HWY_INLINE void read(const uint8_t* block, uint8_t* codes, float* scales) {
    const float d = half_at(block + 80), dmin = half_at(block + 82);
    two_bits(block + 16, codes);
    for (int k = 0; k < 16; ++k) {
      scales[2 * k] = d * static_cast<float>(block[k] & 15);
      scales[2 * k + 1] = -(dmin * static_cast<float>(block[k] >> 4));
    }
  }
};

struct Q3_K : BlockShape<256, 110, 16, false, int8_t> {
  static HWY_INLINE void read(const uint8_t* block, int8_t* codes, float* scales) {
    const uint8_t* packed = block + 96;
    const float d = half_at(block + 108);
    uint8_t three[256];
    two_bits(block + 32, three);
    // The third bits: bit b of mask byte i is that of element 32 b + i; without it the value is 4 less.
    for (int b = 0; b < 8; ++b)
      for (int i = 0; i < 32; ++i)
        three[32 * b + i] = static_cast<uint8_t>(three[32 * b + i] | ((block[i] >> b) & 1) << 2);
    centre<256>(three, 4, codes);
    for (int k = 0; k < 16; ++k) {
      const int low = k < 8 ? packed[k] & 15 : packed[k - 8] >> 4;
      const int high = (packed[8 + k % 4] >> (2 * (k / 4))) & 3;
      scales[2 * k] = d * static_cast<float>((low | high << 4) - 32);
    }
  }
};

/// The six-bit numbers of the eight sub-blocks out of the 12 bytes at the start of Q4_K and Q5_K.
HWY_INLINE void six_bit_scales(const uint8_t* block, float* scales) {
  const float factors[2] = {half_at(block), -half_at(block + 2)};
  const auto a = load_as<uint32_t>(block + 4), b = load_as<uint32_t>(block + 8),
             c = load_as<uint32_t>(block + 12);
  // Four numbers in the bytes of each word.
  const uint32_t first[2] = {a & 0x3F3F3F3FU, (c & 0x0F0F0F0FU) | ((a >> 2) & 0x30303030U)};
  const uint32_t second[2] = {b & 0x3F3F3F3FU, ((c >> 4) & 0x0F0F0F0FU) | ((b >> 2) & 0x30303030U)};
  uint8_t of_scales[8], of_minima[8];
  std::memcpy(of_scales, first, sizeof first);
  std::memcpy(of_minima, second, sizeof second);
  for (int j = 0; j < 8; ++j) {
    scales[2 * j] = factors[0] * static_cast<float>(of_scales[j]);
    scales[2 * j + 1] = factors[1] * static_cast<float>(of_minima[j]);
  }
}

/// Each 32 bytes hold 64 elements, the first half of them in the low nibbles.
HWY_INLINE void nibbles_of_256(const uint8_t* q, uint8_t* codes) {
  for (int part = 0; part < 4; ++part, q += 32, codes += 64) {
    for (int i = 0; i < 32; ++i) codes[i] = q[i] & 15;
    for (int i = 0; i < 32; ++i) codes[i + 32] = q[i] >> 4;
  }
}

struct Q4_K : BlockShape<256, 144, 32, true, uint8_t> {
  static constexpr float kTable[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static HWY_INLINE void scales(const uint8_t* block, float* scales) { six_bit_scales(block, scales); }
  static HWY_INLINE void read(const uint8_t* block, uint8_t* codes, float* scales) {
    nibbles_of_256(block + 16, codes);
    six_bit_scales(block, scales);
  }
};

struct Q5_K : BlockShape<256, 176, 32, true, uint8_t> {
  static HWY_INLINE void read(const uint8_t* block, uint8_t* codes, float* scales) {
    nibbles_of_256(block + 48, codes);
    const uint8_t* high = block + 16;
    for (int j = 0; j < 8; ++j)
      for (int i = 0; i < 32; ++i)
        codes[32 * j + i] = static_cast<uint8_t>(codes[32 * j + i] | ((high[i] >> j) & 1) << 4);
    six_bit_scales(block, scales);
  }
};

struct Q6_K : BlockShape<256, 210, 16, false, int8_t> {
  static HWY_INLINE void read(const uint8_t* block, int8_t* codes, float* scales) {
    const auto* packed = reinterpret_cast<const int8_t*>(block + 192);
    const float d = half_at(block + 208);
    for (int half = 0; half < 2; ++half) {
      const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
      int8_t* q = codes + 128 * half;
      for (int i = 0; i < 32; ++i) {
        q[i] = static_cast<int8_t>(((low[i] & 15) | (high[i] & 3) << 4) - 32);
        q[i + 32] = static_cast<int8_t>(((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4) - 32);
        q[i + 64] = static_cast<int8_t>(((low[i] >> 4) | (high[i] >> 4 & 3) << 4) - 32);
        q[i + 96] = static_cast<int8_t>(((low[i + 32] >> 4) | (high[i] >> 6) << 4) - 32);
      }
    }
    for (int k = 0; k < 16; ++k) scales[2 * k] = d * static_cast<float>(packed[k]);
  }
};

// --- values ---

/// Whether a type's scales are read apart from its codes.
template <typename Block>
inline constexpr bool kScalesApart = Block::kElements == 32;

#if HWY_TARGET == HWY_AVX3
/// The sixteen values that four bits may stand for are one vector: a look-up is all the arithmetic there is.
inline constexpr bool kLookUp = true;
#else
inline constexpr bool kLookUp = false;
#endif
template <typename Block>
inline constexpr bool kFourBits = false;
template <>
inline constexpr bool kFourBits<Q4_0> = true;
template <>
inline constexpr bool kFourBits<Q4_1> = true;
template <>
inline constexpr bool kFourBits<Q4_K> = true;
template <>
inline constexpr bool kFourBits<IQ4_NL> = true;
template <>
inline constexpr bool kFourBits<MXFP4> = true;

template <bool Minima, typename Vec>
HWY_INLINE BlockVec scaled(Vec code, const float* scale) {
  const BlockTag d;
  if constexpr (Minima)
    return hn::MulAdd(hn::Set(d, scale[0]), code, hn::Set(d, scale[1]));
  else
    return hn::Mul(hn::Set(d, scale[0]), code);
}

template <typename Vec>
HWY_INLINE BlockVec look_up(BlockVec table, Vec index) {
  const BlockTag d;
  return hn::TableLookupLanes(table, hn::IndicesFromVec(d, index));
}

/// Calls body(i, values from element i on, values from i + lanes on) for i = 0, 2 lanes, ...; `apart` are the
/// block's scale and minimum when kScalesApart. Products of scales and codes are exact in float32 (11 + 6 + 5
/// bits at most) where there is a minimum, so that the sum is rounded once, whether or not it is one
/// multiply-add.
template <typename Block, typename Body>
HWY_INLINE void each_pair(const uint8_t* block, const float* apart, const Body& body) {
  const BlockTag d;
  const hn::Rebind<int32_t, BlockTag> integers;
  if constexpr (kLookUp && kFourBits<Block>) {
    const auto codes = [&](const uint8_t* at) HWY_ATTR {
      return hn::PromoteTo(integers, hn::LoadU(hn::Rebind<uint8_t, BlockTag>(), at));
    };
    const auto low = [&](auto both) HWY_ATTR { return hn::And(both, hn::Set(integers, 15)); };
    const BlockVec meanings = hn::LoadU(d, Block::kTable);
    if constexpr (kScalesApart<Block>) {
      const BlockVec table = scaled<Block::kMinima>(meanings, apart);
      const auto both = codes(block + Block::kBytes - 16);
      body(0, look_up(table, low(both)), look_up(table, hn::ShiftRight<4>(both)));
    } else {
      alignas(64) float scales[kMostScales];
      Block::scales(block, scales);
      for (int part = 0; part < 4; ++part) {
        const uint8_t* at = block + Block::kBytes - 128 + 32 * part;
        const BlockVec first = scaled<true>(meanings, scales + 4 * part),
                       second = scaled<true>(meanings, scales + 4 * part + 2);
        const auto left = codes(at), right = codes(at + 16);
        body(64 * part, look_up(first, low(left)), look_up(first, low(right)));
        body(64 * part + 32, look_up(second, hn::ShiftRight<4>(left)),
             look_up(second, hn::ShiftRight<4>(right)));
      }
    }
  } else {
    const hn::Rebind<typename Block::Code, BlockTag> bytes;
    const int lanes = static_cast<int>(hn::Lanes(d));
    alignas(64) typename Block::Code codes[Block::kElements];
    alignas(64) float inside[kMostScales];
    const float* scales = apart;
    if constexpr (kScalesApart<Block>) {
      Block::codes(block, codes);
    } else {
      Block::read(block, codes, inside);
      scales = inside;
    }
    const auto values = [&](int i) HWY_ATTR {
      const BlockVec code = hn::ConvertTo(d, hn::PromoteTo(integers, hn::LoadU(bytes, codes + i)));
      return scaled<Block::kMinima>(code, scales + 2 * (i / Block::kScaled));
    };
    for (int i = 0; i < Block::kElements; i += 2 * lanes) body(i, values(i), values(i + lanes));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target
