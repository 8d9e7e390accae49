#include "gatewright/kernels/cpu/packed_dot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "each_target.h"
#include "gatewright/base/parallel.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/half.h"
#include "random_values.h"

namespace gatewright::kernels {
namespace {

constexpr DataType kTypes[] = {DataType::kF32,  DataType::kF16,    DataType::kBF16, DataType::kQ4_0,
                               DataType::kQ4_1, DataType::kQ5_0,   DataType::kQ5_1, DataType::kQ8_0,
                               DataType::kQ2_K, DataType::kQ3_K,   DataType::kQ4_K, DataType::kQ5_K,
                               DataType::kQ6_K, DataType::kIQ4_NL, DataType::kMXFP4};

/// Where a block has halves that must be finite.
std::vector<size_t> halves_of(DataType type) {
  switch (type) {
    case DataType::kQ4_1:
    case DataType::kQ5_1:
    case DataType::kQ4_K:
    case DataType::kQ5_K:
      return {0, 2};
    case DataType::kQ2_K:
      return {80, 82};
    case DataType::kQ3_K:
      return {108};
    case DataType::kQ6_K:
      return {208};
    case DataType::kF32:
    case DataType::kBF16:
    case DataType::kMXFP4:
      return {};
    default:
      return {0};
  }
}

struct Matrix {
  PackedRows rows;
  std::vector<std::byte> bytes;
  std::vector<float> values;
};

/// Any codes and sensible scales.
Matrix random_matrix(DataType type, int64_t rows, int64_t columns, RandomStream& random) {
  const auto block = static_cast<size_t>(block_bytes(type));
  Matrix m{
      .rows = {type, rows, columns, nullptr},
      .bytes = std::vector<std::byte>(static_cast<size_t>(rows * columns / block_elements(type)) * block),
      .values = std::vector<float>(static_cast<size_t>(rows * columns))};
  for (size_t i = 0; i < m.bytes.size(); ++i) m.bytes[i] = static_cast<std::byte>(random.next_u32());
  for (size_t i = 0; i < m.bytes.size(); i += block) {
    std::byte* at = m.bytes.data() + i;
    for (const size_t half : halves_of(type)) {
      const uint16_t bits = float_to_half(random.normal());
      std::memcpy(at + half, &bits, sizeof bits);
    }
    const float value = random.normal();
    const uint16_t upper = float_to_bfloat(value);
    if (type == DataType::kF32) std::memcpy(at, &value, sizeof value);
    if (type == DataType::kBF16) std::memcpy(at, &upper, sizeof upper);
    if (type == DataType::kMXFP4) *at = static_cast<std::byte>(120 + random.next_u32() % 10);
  }
  unpack(type, m.bytes, m.values);
  m.rows.data = m.bytes.data();
  return m;
}

TEST(PackedDot, MultipliesAHandCheckedExample) {
  // Q4_1: scale 0.5, minimum -1, codes 0 to 15 twice: -1, -0.5, ..., 6.5.
  std::vector<std::byte> block(20);
  const uint16_t scale = float_to_half(0.5F), minimum = float_to_half(-1.0F);
  std::memcpy(block.data(), &scale, 2);
  std::memcpy(block.data() + 2, &minimum, 2);
  for (size_t i = 0; i < 16; ++i) block[4 + i] = static_cast<std::byte>(i | i << 4);
  std::vector<float> a(32, 1.0F);
  a[0] = a[16] = 2.0F;  // twice -1 more
  for_each_target([&] {
    float c = 0;
    packed_dot(1, a.data(), {DataType::kQ4_1, 1, 32, block.data()}, 0, 1, &c);
    EXPECT_EQ(c, 2 * (0.5F * 120 - 16) - 2);
  });
}

TEST(PackedDot, AgreesWithUnpackedRowsOnEveryTarget) {
  for_each_target([] {
    RandomStream random(5, "packed dot");
    for (const DataType type : kTypes) {
      EXPECT_TRUE(has_packed_dot(type));
      for (const int64_t rows : {1, 3, 21}) {
        // 35 blocks of 32: more than have their scales read at once. Plain types have rows of any length.
        const int64_t columns =
            is_packed(type) ? block_elements(type) * (block_elements(type) == 32 ? 35 : 3) : 301;
        const Matrix b = random_matrix(type, rows, columns, random);
        const std::vector<float> a = normals(8 * columns, random);
        for (int64_t m = 1; m <= 8; ++m) {
          SCOPED_TRACE(::testing::Message() << data_type_name(type) << " " << m << " x " << rows);
          std::vector<float> c(static_cast<size_t>(m * rows), -1.0F);
          packed_dot(m, a.data(), b.rows, 0, rows, c.data());
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t r = 0; r < rows; ++r) {
              double sum = 0, size = 0;
              for (int64_t q = 0; q < columns; ++q) {
                const double product = static_cast<double>(a[static_cast<size_t>(i * columns + q)]) *
                                       static_cast<double>(b.values[static_cast<size_t>(r * columns + q)]);
                sum += product;
                size += std::abs(product);
              }
              ASSERT_NEAR(static_cast<double>(c[static_cast<size_t>(i * rows + r)]), sum, 1e-6 * size);
            }
          }
        }
      }
    }
  });
}

TEST(PackedDot, ASumDependsOnItsTwoRowsOnly) {
  for_each_target([] {
    RandomStream random(6, "packed dot");
    constexpr int64_t kRows = 39, kColumns = 512;
    for (const DataType type : kTypes) {
      const Matrix b = random_matrix(type, kRows, kColumns, random);
      const std::vector<float> a = normals(8 * kColumns, random);
      std::vector<float> alone(8 * kRows);
      for (int64_t i = 0; i < 8; ++i) {
        for (int64_t r = 0; r < kRows; ++r)
          packed_dot(1, a.data() + i * kColumns, b.rows, r, r + 1, alone.data() + i * kRows);
      }
      const int before = num_threads();
      for (int64_t m = 1; m <= 8; ++m) {
        const int threads = 1 + static_cast<int>(m % 3);
        set_num_threads(threads);
        std::vector<float> c(static_cast<size_t>(m * kRows));
        packed_gemm_nt(m, a.data(), b.rows, c.data());
        EXPECT_EQ(c, std::vector<float>(alone.begin(), alone.begin() + m * kRows))
            << data_type_name(type) << " " << m << " rows, " << threads << " threads";
      }
      set_num_threads(before);
    }
  });
}

TEST(PackedDot, LeavesIntegersToTheGeneralProduct) {
  EXPECT_FALSE(has_packed_dot(DataType::kI32));
  const int32_t b[] = {1, 2, 3, 4};  // [2, 2]
  const float a[] = {5, 6};
  float c[2] = {};
  packed_gemm_nt(1, a, {DataType::kI32, 2, 2, reinterpret_cast<const std::byte*>(b)}, c);
  EXPECT_EQ(c[0], 17);
  EXPECT_EQ(c[1], 39);
}

}  // namespace
}  // namespace gatewright::kernels
