#include "gatewright/formats/block_types.h"

#include <bit>
#include <cstring>

#include "gatewright/base/error.h"
#include "gatewright/formats/half.h"

namespace gatewright {
namespace {

template <typename T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}
float half_at(const uint8_t* bytes) { return half_to_float(load<uint16_t>(bytes)); }

// --- blocks of 32 ---

/// Element i is in the low half of byte i, element i + 16 in the high half.
void unpack_q4_0(const uint8_t* block, float* x) {
  const float d = half_at(block);
  const uint8_t* q = block + 2;
  for (int i = 0; i < 16; ++i) x[i] = d * static_cast<float>((q[i] & 15) - 8);
  for (int i = 0; i < 16; ++i) x[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
}

void unpack_q4_1(const uint8_t* block, float* x) {
  const float d = half_at(block), m = half_at(block + 2);
  const uint8_t* q = block + 4;
  for (int i = 0; i < 16; ++i) x[i] = d * static_cast<float>(q[i] & 15) + m;
  for (int i = 0; i < 16; ++i) x[i + 16] = d * static_cast<float>(q[i] >> 4) + m;
}

/// Nibbles as in Q4_0, and bit i of `high` as the fifth bit of element i.
void five_bits(const uint8_t* high, const uint8_t* q, int32_t* values) {
  const auto bits = load<uint32_t>(high);
  for (int i = 0; i < 16; ++i) values[i] = static_cast<int32_t>((q[i] & 15U) | ((bits >> i) & 1U) << 4);
  for (int i = 0; i < 16; ++i)
    values[i + 16] = static_cast<int32_t>((uint32_t{q[i]} >> 4) | ((bits >> (i + 16)) & 1U) << 4);
}

void unpack_q5_0(const uint8_t* block, float* x) {
  const float d = half_at(block);
  int32_t q[32];
  five_bits(block + 2, block + 6, q);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(q[i] - 16);
}

void unpack_q5_1(const uint8_t* block, float* x) {
  const float d = half_at(block), m = half_at(block + 2);
  int32_t q[32];
  five_bits(block + 4, block + 8, q);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(q[i]) + m;
}

void unpack_q8_0(const uint8_t* block, float* x) {
  const float d = half_at(block);
  const auto* q = reinterpret_cast<const int8_t*>(block + 2);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(q[i]);
}

constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr float kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // doubled

void unpack_table(float d, const float* table, const uint8_t* q, float* x) {
  float scaled[16];
  for (int i = 0; i < 16; ++i) scaled[i] = d * table[i];
  for (int i = 0; i < 16; ++i) x[i] = scaled[q[i] & 15];
  for (int i = 0; i < 16; ++i) x[i + 16] = scaled[q[i] >> 4];
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
void two_bits(const uint8_t* q, uint8_t* values) {
  for (int half = 0; half < 2; ++half)
    for (int layer = 0; layer < 4; ++layer)
      for (int i = 0; i < 32; ++i)
        values[128 * half + 32 * layer + i] = static_cast<uint8_t>((q[32 * half + i] >> (2 * layer)) & 3);
}

void unpack_q2_k(const uint8_t* block, float* x) {
  const float d = half_at(block + 80), dmin = half_at(block + 82);
  uint8_t q[256];
  two_bits(block + 16, q);
  for (int k = 0; k < 16; ++k) {
    const float scale = d * static_cast<float>(block[k] & 15), min = dmin * static_cast<float>(block[k] >> 4);
    for (int i = 16 * k; i < 16 * (k + 1); ++i) x[i] = scale * static_cast<float>(q[i]) - min;
  }
}

void unpack_q3_k(const uint8_t* block, float* x) {
  const uint8_t* scales = block + 96;
  const float d = half_at(block + 108);
  uint8_t q[256];
  two_bits(block + 32, q);
  // The third bits: bit b of mask byte i is that of element 32 b + i; without it the value is 4 less.
  int8_t value[256];
  for (int b = 0; b < 8; ++b)
    for (int i = 0; i < 32; ++i)
      value[32 * b + i] = static_cast<int8_t>(q[32 * b + i] + ((block[i] >> b) & 1) * 4 - 4);
  for (int k = 0; k < 16; ++k) {
    const int low = k < 8 ? scales[k] & 15 : scales[k - 8] >> 4;
    const int high = (scales[8 + k % 4] >> (2 * (k / 4))) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    for (int i = 16 * k; i < 16 * (k + 1); ++i) x[i] = scale * static_cast<float>(value[i]);
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

void unpack_q4_k(const uint8_t* block, float* x) {
  const float d = half_at(block), dmin = half_at(block + 2);
  for (int j = 0; j < 8; ++j) {
    const auto [scale, min] = scale_and_min(block + 4, j);
    const float a = d * static_cast<float>(scale), b = dmin * static_cast<float>(min);
    const uint8_t* q = block + 16 + 32 * (j / 2);
    const int shift = 4 * (j % 2);
    for (int i = 0; i < 32; ++i) x[32 * j + i] = a * static_cast<float>((q[i] >> shift) & 15) - b;
  }
}

void unpack_q5_k(const uint8_t* block, float* x) {
  const float d = half_at(block), dmin = half_at(block + 2);
  const uint8_t* high = block + 16;
  for (int j = 0; j < 8; ++j) {
    const auto [scale, min] = scale_and_min(block + 4, j);
    const float a = d * static_cast<float>(scale), b = dmin * static_cast<float>(min);
    const uint8_t* q = block + 48 + 32 * (j / 2);
    const int shift = 4 * (j % 2);
    for (int i = 0; i < 32; ++i)
      x[32 * j + i] = a * static_cast<float>(((q[i] >> shift) & 15) | ((high[i] >> j) & 1) << 4) - b;
  }
}

void unpack_q6_k(const uint8_t* block, float* x) {
  const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
  const float d = half_at(block + 208);
  for (int part = 0; part < 8; ++part) {  // of 32 elements with two scales
    const int half = part / 4, quarter = part % 4;
    const uint8_t* low = block + 64 * half + 32 * (quarter % 2);
    const uint8_t* high = block + 128 + 32 * half;
    const int low_shift = 4 * (quarter / 2), high_shift = 2 * quarter;
    const float a = d * static_cast<float>(scales[2 * part]),
                b = d * static_cast<float>(scales[2 * part + 1]);
    float* y = x + 32 * part;
    const auto value = [&](int i) {
      return static_cast<float>((((low[i] >> low_shift) & 15) | ((high[i] >> high_shift) & 3) << 4) - 32);
    };
    for (int i = 0; i < 16; ++i) y[i] = a * value(i);
    for (int i = 16; i < 32; ++i) y[i] = b * value(i);
  }
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

void unpack(DataType type, std::span<const std::byte> blocks, std::span<float> values) {
  const auto elements = static_cast<size_t>(block_elements(type)),
             bytes = static_cast<size_t>(block_bytes(type));
  require(values.size() % elements == 0 && blocks.size() == values.size() / elements * bytes,
          "{} values of {} can't be unpacked from {} bytes", values.size(), data_type_name(type),
          blocks.size());
  const auto* in = reinterpret_cast<const uint8_t*>(blocks.data());
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

}  // namespace gatewright
