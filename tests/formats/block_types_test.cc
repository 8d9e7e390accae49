#include "gatewright/formats/block_types.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "gatewright/base/random.h"
#include "gatewright/formats/half.h"
#include "tests/kernels/each_target.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr DataType kPacked[] = {DataType::kQ4_0, DataType::kQ4_1, DataType::kQ5_0,   DataType::kQ5_1,
                                DataType::kQ8_0, DataType::kQ2_K, DataType::kQ3_K,   DataType::kQ4_K,
                                DataType::kQ5_K, DataType::kQ6_K, DataType::kIQ4_NL, DataType::kMXFP4};

std::vector<float> unpacked(DataType type, const std::vector<uint8_t>& blocks) {
  std::vector<float> values(blocks.size() / static_cast<size_t>(block_bytes(type)) *
                            static_cast<size_t>(block_elements(type)));
  unpack(type, std::as_bytes(std::span(blocks)), values);
  return values;
}

TEST(Unpack, GivesTheSameBitsOnEveryProcessor) {
  RandomStream random(7, "blocks");
  for (const DataType type : kPacked) {
    std::vector<uint8_t> blocks(static_cast<size_t>(block_bytes(type)) * 9);
    for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(random.next_u32());
    std::vector<uint32_t> first;
    kernels::for_each_target([&] {
      std::vector<uint32_t> bits;
      for (const float value : unpacked(type, blocks))
        bits.push_back(std::isnan(value) ? 0x7FC00000U : std::bit_cast<uint32_t>(value));
      if (first.empty()) first = bits;
      EXPECT_EQ(bits, first) << data_type_name(type);
    });
  }
}

TEST(Half, KnownNumbersBothWays) {
  const std::pair<uint16_t, float> known[] = {
      {0x0000, 0.0F},     {0x8000, -0.0F},           {0x3C00, 1.0F},
      {0xC000, -2.0F},    {0x3555, 0.333251953125F}, {0x7BFF, 65504.0F},
      {0x0400, 0x1p-14F}, {0x0001, 0x1p-24F},        {0x03FF, 0x3FFp-24F},
      {0x7C00, INFINITY}, {0xFC00, -INFINITY}};
  for (const auto& [half, value] : known) {
    EXPECT_EQ(std::bit_cast<uint32_t>(half_to_float(half)), std::bit_cast<uint32_t>(value)) << value;
    EXPECT_EQ(float_to_half(value), half) << value;
  }
  EXPECT_TRUE(std::isnan(half_to_float(0x7E00)));
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(NAN))));
}

TEST(Half, EveryHalfComesBackAndBetweenTwoTheNearestIsTaken) {
  for (uint32_t h = 0; h < 0x7C00; ++h) {
    const float value = half_to_float(static_cast<uint16_t>(h));
    EXPECT_EQ(float_to_half(value), h);
    EXPECT_EQ(float_to_half(-value), h | 0x8000U);
    if (h + 1 == 0x7C00) break;
    const float next = half_to_float(static_cast<uint16_t>(h + 1)), middle = (value + next) / 2;
    EXPECT_LT(value, next);
    EXPECT_EQ(float_to_half(middle), h + h % 2) << "a tie goes to the even one";
    EXPECT_EQ(float_to_half(std::nextafter(middle, 0.0F)), h);
    EXPECT_EQ(float_to_half(std::nextafter(middle, 1e9F)), h + 1);
  }
  EXPECT_EQ(float_to_half(65519.0F), 0x7BFF);
  EXPECT_EQ(float_to_half(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_half(1e30F), 0x7C00);
}

TEST(BFloat, IsTheUpperHalfOfAFloatRoundedToEven) {
  EXPECT_EQ(float_to_bfloat(1.0F), 0x3F80);
  EXPECT_EQ(bfloat_to_float(0xC040), -3.0F);
  EXPECT_EQ(float_to_bfloat(std::bit_cast<float>(0x3F808000U)), 0x3F80);
  EXPECT_EQ(float_to_bfloat(std::bit_cast<float>(0x3F818000U)), 0x3F82);
  EXPECT_EQ(float_to_bfloat(std::bit_cast<float>(0x3F808001U)), 0x3F81);
  EXPECT_TRUE(std::isnan(bfloat_to_float(float_to_bfloat(std::bit_cast<float>(0x7F800001U)))));
}

// --- blocks whose values can be checked by hand ---

TEST(Unpack, Q4_0HasTheFirstHalfInTheLowNibbles) {
  std::vector<uint8_t> block = {0x00, 0x38};  // 0.5
  for (uint8_t i = 0; i < 16; ++i) block.push_back(static_cast<uint8_t>(i | (15 - i) << 4));
  const auto x = unpacked(DataType::kQ4_0, block);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(x[i], 0.5F * (static_cast<float>(i) - 8));
    EXPECT_EQ(x[i + 16], 0.5F * (7 - static_cast<float>(i)));
  }
}

TEST(Unpack, Q8_0IsASignedByteTimesTheScale) {
  std::vector<uint8_t> block = {0x00, 0x40};  // 2
  for (int i = 0; i < 32; ++i) block.push_back(static_cast<uint8_t>(i - 16));
  const auto x = unpacked(DataType::kQ8_0, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(x[i], 2.0F * (static_cast<float>(i) - 16));
}

TEST(Unpack, Q5_1HasTheFifthBitsApart) {
  std::vector<uint8_t> block = {0x00, 0x3C, 0x00, 0xC0, 0x01, 0x00, 0x01, 0x80};  // 1, -2, bits 0, 16 and 31
  block.insert(block.end(), 16, 0x21);                                            // low 1, high 2
  const auto x = unpacked(DataType::kQ5_1, block);
  EXPECT_EQ(x[0], 17.0F - 2);
  EXPECT_EQ(x[1], 1.0F - 2);
  EXPECT_EQ(x[16], 18.0F - 2);
  EXPECT_EQ(x[17], 2.0F - 2);
  EXPECT_EQ(x[31], 18.0F - 2);
}

TEST(Unpack, Mxfp4IsATableOfDoubledValuesTimesHalfAPowerOfTwo) {
  std::vector<uint8_t> block = {127};  // 2^(127 - 128)
  block.insert(block.end(), 16, 0xF7);
  auto x = unpacked(DataType::kMXFP4, block);
  EXPECT_EQ(x[0], 6.0F);
  EXPECT_EQ(x[16], -6.0F);
  for (int e = 0; e < 256; ++e) {
    block[0] = static_cast<uint8_t>(e);
    block[1] = 0x01;
    EXPECT_EQ(unpacked(DataType::kMXFP4, block)[0], std::ldexp(1.0F, e - 128)) << e;
  }
}

TEST(Unpack, Iq4NlLooksUpItsTable) {
  std::vector<uint8_t> block = {0x00, 0x3C};
  block.insert(block.end(), 16, 0x0F);
  const auto x = unpacked(DataType::kIQ4_NL, block);
  EXPECT_EQ(x[0], 113.0F);
  EXPECT_EQ(x[31], -127.0F);
}

TEST(Unpack, Q4_KScalesOfTheLaterSubBlocksAreInTwoPlaces) {
  std::vector<uint8_t> block(144);
  block[1] = 0x3C;        // d = 1
  block[3] = 0x3C;        // dmin = 1
  block[4] = 0xC0;        // scale 0 is 0, two high bits of scale 4
  block[4 + 4] = 0x45;    // min 0 is 5, two high bits of min 4 are 1
  block[4 + 8] = 0x32;    // low bits: scale 4 is 2, min 4 is 3
  block[16 + 64] = 0x07;  // element 0 of sub-block 4 is 7
  const auto x = unpacked(DataType::kQ4_K, block);
  EXPECT_EQ(x[0], -5.0F);
  EXPECT_EQ(x[4 * 32], (48.0F + 2) * 7 - (16 + 3));
  EXPECT_EQ(x[4 * 32 + 1], -19.0F);
}

TEST(Unpack, PlainTypes) {
  EXPECT_THAT(unpacked(DataType::kBF16, {0x80, 0x3F, 0x40, 0xC0}), ElementsAre(1.0F, -3.0F));
  EXPECT_THAT(unpacked(DataType::kF16, {0x00, 0x3C}), ElementsAre(1.0F));
  EXPECT_THAT(unpacked(DataType::kI8, {0xFF, 3}), ElementsAre(-1.0F, 3.0F));
  EXPECT_THAT(unpacked(DataType::kU8, {0xFF}), ElementsAre(255.0F));
  EXPECT_THAT(unpacked(DataType::kI16, {0xFE, 0xFF}), ElementsAre(-2.0F));
  EXPECT_THAT(unpacked(DataType::kF64, {0, 0, 0, 0, 0, 0, 0xF8, 0x3F}), ElementsAre(1.5F));
  EXPECT_THAT(unpacked(DataType::kI64, {2, 0, 0, 0, 0, 0, 0, 0}), ElementsAre(2.0F));
  EXPECT_THAT(unpacked(DataType::kI32, {2, 1, 0, 0}), ElementsAre(258.0F));
}

TEST(Unpack, RefusesOtherThanWholeBlocks) {
  std::vector<uint8_t> bytes(34);
  std::vector<float> values(32);
  EXPECT_EQ(error_of([&] { unpack(DataType::kQ8_0, std::as_bytes(std::span(bytes)).first(33), values); }),
            "32 values of Q8_0 can't be unpacked from 33 bytes");
  error_of([&] { unpack(DataType::kQ8_0, std::as_bytes(std::span(bytes)), std::span(values).first(31)); });
  error_of([&] { unpack(DataType::kQ4_K, std::as_bytes(std::span(bytes)), values); });
  unpack(DataType::kQ4_K, {}, {});
}

// --- one element at a time, straight from the description of the layouts ---

float half_at(const uint8_t* b) { return half_to_float(static_cast<uint16_t>(b[0] | b[1] << 8)); }
int nibble(const uint8_t* q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }
int fifth(const uint8_t* high, int i) { return (high[i / 8] >> (i % 8) & 1) << 4; }
int k_scale(const uint8_t* s, int j) { return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4; }
int k_min(const uint8_t* s, int j) { return j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4; }
int k_nibble(const uint8_t* q, int i) {
  const int sub = i / 32;
  return (q[32 * (sub / 2) + i % 32] >> 4 * (sub % 2)) & 15;
}
int k_two_bits(const uint8_t* q, int i) {
  const int half = i / 128, shift = 2 * (i % 128 / 32);
  return (q[32 * half + i % 32] >> shift) & 3;
}

float q3_k(const uint8_t* b, int i) {
  const int half = i / 128, shift = 2 * (i % 128 / 32), k = i / 16;
  const uint8_t* s = b + 96;
  const int low = k < 8 ? s[k] & 15 : s[k - 8] >> 4, high = (s[8 + k % 4] >> 2 * (k / 4)) & 3;
  const bool set = (b[i % 32] >> (4 * half + shift / 2)) & 1;
  return half_at(b + 108) * static_cast<float>((low | high << 4) - 32) *
         static_cast<float>(k_two_bits(b + 32, i) - (set ? 0 : 4));
}

float q6_k(const uint8_t* b, int i) {
  const int h = i / 128, part = i % 128 / 32, l = i % 32;
  const uint8_t *lo = b + 64 * h, *hi = b + 128 + 32 * h;
  int q = 0;
  if (part == 0) q = (lo[l] & 15) | (hi[l] & 3) << 4;
  if (part == 1) q = (lo[l + 32] & 15) | (hi[l] >> 2 & 3) << 4;
  if (part == 2) q = (lo[l] >> 4) | (hi[l] >> 4 & 3) << 4;
  if (part == 3) q = (lo[l + 32] >> 4) | (hi[l] >> 6) << 4;
  const auto scale = static_cast<int8_t>(b[192 + i / 16]);
  return half_at(b + 208) * static_cast<float>(scale) * static_cast<float>(q - 32);
}

float element(DataType type, const uint8_t* b, int i) {
  constexpr int kIq4[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  constexpr int kFp4[] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  const auto number = [](int q) { return static_cast<float>(q); };
  switch (type) {
    case DataType::kQ4_0:
      return half_at(b) * number(nibble(b + 2, i) - 8);
    case DataType::kQ4_1:
      return half_at(b) * number(nibble(b + 4, i)) + half_at(b + 2);
    case DataType::kQ5_0:
      return half_at(b) * number((nibble(b + 6, i) | fifth(b + 2, i)) - 16);
    case DataType::kQ5_1:
      return half_at(b) * number(nibble(b + 8, i) | fifth(b + 4, i)) + half_at(b + 2);
    case DataType::kQ8_0:
      return half_at(b) * number(static_cast<int8_t>(b[2 + i]));
    case DataType::kQ2_K:
      return half_at(b + 80) * number(b[i / 16] & 15) * number(k_two_bits(b + 16, i)) -
             half_at(b + 82) * number(b[i / 16] >> 4);
    case DataType::kQ3_K:
      return q3_k(b, i);
    case DataType::kQ4_K:
      return half_at(b) * number(k_scale(b + 4, i / 32)) * number(k_nibble(b + 16, i)) -
             half_at(b + 2) * number(k_min(b + 4, i / 32));
    case DataType::kQ5_K:
      return half_at(b) * number(k_scale(b + 4, i / 32)) *
                 number(k_nibble(b + 48, i) | (b[16 + i % 32] >> (i / 32) & 1) << 4) -
             half_at(b + 2) * number(k_min(b + 4, i / 32));
    case DataType::kQ6_K:
      return q6_k(b, i);
    case DataType::kIQ4_NL:
      return half_at(b) * number(kIq4[nibble(b + 2, i)]);
    case DataType::kMXFP4:
      return std::ldexp(number(kFp4[nibble(b + 1, i)]), b[0] - 128);
    default:
      return 0;
  }
}

TEST(Unpack, RandomBlocksHaveTheValuesOfTheDescriptionBitForBit) {
  RandomStream random(1, "blocks");
  for (const DataType type : kPacked) {
    const auto bytes = static_cast<size_t>(block_bytes(type));
    const auto elements = static_cast<size_t>(block_elements(type));
    std::vector<uint8_t> blocks(40 * bytes);
    for (uint8_t& b : blocks) b = static_cast<uint8_t>(random.below(256));
    const std::vector<float> values = unpacked(type, blocks);
    for (size_t i = 0; i < values.size(); ++i) {
      const float expected =
          element(type, blocks.data() + i / elements * bytes, static_cast<int>(i % elements));
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(values[i])) << data_type_name(type) << " element " << i;
        continue;
      }
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected))
          << data_type_name(type) << " element " << i << ": " << values[i] << ", expected " << expected;
    }
  }
}

}  // namespace
}  // namespace gatewright
