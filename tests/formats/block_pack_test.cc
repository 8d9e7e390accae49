#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>

#include "gatewright/base/random.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/half.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Values = std::span<const float>;
using List = std::vector<float>;

List packed_and_unpacked(DataType type, Values x, Values importance = {}) {
  const auto length = static_cast<int64_t>(x.size());
  std::vector<std::byte> blocks(static_cast<size_t>(tensor_bytes(type, std::vector{length}, "x")));
  pack(type, x, length, importance, blocks);
  List result(x.size());
  unpack(type, blocks, result);
  return result;
}

double error_sum(Values x, Values y, Values importance = {}) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i)
    sum += (importance.empty() ? 1.0 : static_cast<double>(importance[i])) *
           std::pow(static_cast<double>(x[i] - y[i]), 2);
  return sum;
}

// --- the plain rules, for their error ---

float half(float x) { return half_to_float(float_to_half(x)); }
float signed_largest(Values x) {
  float largest = 0;
  for (const float v : x)
    if (std::abs(v) > std::abs(largest)) largest = v;
  return largest;
}
float mean_square(Values x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * v;
  return static_cast<float>(sum / static_cast<double>(x.size()));
}

List plain_q8_0(Values x) {
  const float d = std::abs(signed_largest(x)) / 127;
  List y;
  for (const float v : x) y.push_back(d == 0 ? 0 : half(d) * std::nearbyint(v / d));
  return y;
}

/// Q4_0 (8 levels to either side) and Q5_0 (16).
List plain_symmetric(Values x, float levels) {
  const float d = signed_largest(x) / -levels;
  List y;
  for (const float v : x)
    y.push_back(d == 0 ? 0
                       : half(d) * (std::min(2 * levels - 1, std::floor(v / d + levels + 0.5F)) - levels));
  return y;
}

List plain_asymmetric(Values x, float levels) {
  const auto [least, most] = std::ranges::minmax(x);
  const float d = (most - least) / levels;
  List y;
  for (const float v : x)
    y.push_back((d == 0 ? 0 : half(d) * std::floor((v - least) / d + 0.5F)) + half(least));
  return y;
}

/// The symmetric search: of 19 inverse scales the one with the largest sum(w x q)^2 / sum(w q^2).
float searched_scale(Values x, Values w, float n) {
  const float largest = signed_largest(x);
  if (largest == 0) return 0;
  double best = -1, scale = 0;
  for (int i = -9; i <= 9; ++i) {
    const float inverse = -(n + 0.1F * static_cast<float>(i)) / largest;
    double xq = 0, qq = 0;
    for (size_t k = 0; k < x.size(); ++k) {
      const double q = std::clamp(std::nearbyint(inverse * x[k]), -n, n - 1);
      xq += w[k] * x[k] * q;
      qq += w[k] * q * q;
    }
    if (qq > 0 && xq * xq / qq > best) {
      best = xq * xq / qq;
      scale = xq / qq;
    }
  }
  return static_cast<float>(scale);
}

List plain_q4_0_with_importance(Values x, Values importance, float row_mean_square) {
  List w;
  for (size_t i = 0; i < x.size(); ++i) w.push_back(importance[i] * std::sqrt(row_mean_square + x[i] * x[i]));
  const float d = searched_scale(x, w, 8);
  List y;
  for (const float v : x) y.push_back(d == 0 ? 0 : half(d) * std::clamp(std::nearbyint(v / d), -8.0F, 7.0F));
  return y;
}

List plain_q6_k(Values x, Values importance) {
  List scales, y;
  const float s2 = mean_square(x);
  for (size_t k = 0; k < 16; ++k) {
    List w;
    for (size_t i = 16 * k; i < 16 * (k + 1); ++i)
      w.push_back(importance.empty() ? x[i] * x[i] : importance[i] * std::sqrt(s2 + x[i] * x[i]));
    scales.push_back(searched_scale(x.subspan(16 * k, 16), w, 32));
  }
  const float d = signed_largest(scales) / -128;
  for (size_t i = 0; i < 256; ++i) {
    const float stored = d == 0 ? 0 : std::min(127.0F, std::nearbyint(scales[i / 16] / d));
    const float scale = half(d) * stored;
    y.push_back(scale == 0 ? 0 : scale * std::clamp(std::nearbyint(x[i] / scale), -32.0F, 31.0F));
  }
  return y;
}

struct Pair {
  double scale, min;
};
/// The asymmetric search of Q4_K (15 levels) and Q5_K (31).
Pair searched_pair(Values x, Values w, float levels, float r0, float step, int steps) {
  const auto [low, most] = std::ranges::minmax(x);
  const float least = std::min(low, 0.0F);
  if (most == least) return {0, least};
  Pair best = {(most - least) / levels, least};
  double best_error = std::numeric_limits<double>::infinity();
  for (int i = -1; i <= steps; ++i) {
    const float inverse = (i < 0 ? levels : r0 + step * static_cast<float>(i) + levels) / (most - least);
    double sw = 0, sq = 0, sqq = 0, sx = 0, sxq = 0;
    List q;
    for (size_t k = 0; k < x.size(); ++k) {
      q.push_back(std::clamp(std::nearbyint(inverse * (x[k] - least)), 0.0F, levels));
      sw += w[k];
      sq += w[k] * q[k];
      sqq += w[k] * q[k] * q[k];
      sx += w[k] * x[k];
      sxq += w[k] * x[k] * q[k];
    }
    const double determinant = sw * sqq - sq * sq;
    if (determinant <= 0) continue;
    Pair p = {(sw * sxq - sx * sq) / determinant, (sqq * sx - sq * sxq) / determinant};
    if (p.min > 0) p = {sxq / sqq, 0};
    double error = 0;
    for (size_t k = 0; k < x.size(); ++k) error += w[k] * std::pow(p.scale * q[k] + p.min - x[k], 2);
    if (error < best_error) {
      best_error = error;
      best = p;
    }
  }
  return best;
}

/// Q4_K (15 levels) and Q5_K (31).
List plain_k(Values x, Values importance, float levels) {
  std::vector<Pair> pairs;
  double largest = 0, largest_min = 0;
  const float s2 = 2 * mean_square(x);
  for (size_t j = 0; j < 8; ++j) {
    const Values part = x.subspan(32 * j, 32);
    const float mean = std::sqrt(mean_square(part));
    List w;
    for (size_t i = 0; i < 32; ++i)
      w.push_back(importance.empty() ? mean + std::abs(part[i])
                                     : importance[32 * j + i] * std::sqrt(s2 + part[i] * part[i]));
    pairs.push_back(!importance.empty() ? searched_pair(part, w, levels, -0.9F, 0.05F, 36)
                    : levels == 15      ? searched_pair(part, w, levels, -1, 0.1F, 20)
                                        : searched_pair(part, w, levels, -0.5F, 0.1F, 15));
    largest = std::max(largest, pairs.back().scale);
    largest_min = std::max(largest_min, -pairs.back().min);
  }
  const float d = half(static_cast<float>(largest / 63)), dmin = half(static_cast<float>(largest_min / 63));
  List y;
  for (size_t i = 0; i < 256; ++i) {
    const Pair& p = pairs[i / 32];
    const float s =
        largest == 0 ? 0 : std::min(63.0F, static_cast<float>(std::nearbyint(63 * p.scale / largest)));
    const float m =
        largest_min == 0 ? 0 : std::min(63.0F, static_cast<float>(std::nearbyint(63 * -p.min / largest_min)));
    const float scale = d * s, min = dmin * m;
    y.push_back((scale == 0 ? 0 : scale * std::clamp(std::nearbyint((x[i] + min) / scale), 0.0F, levels)) -
                min);
  }
  return y;
}

List plain(DataType type, Values x, Values importance, float row_mean_square) {
  switch (type) {
    case DataType::kQ8_0:
      return plain_q8_0(x);
    case DataType::kQ4_0:
      return importance.empty() ? plain_symmetric(x, 8)
                                : plain_q4_0_with_importance(x, importance, row_mean_square);
    case DataType::kQ5_0:
      return plain_symmetric(x, 16);
    case DataType::kQ4_1:
      return plain_asymmetric(x, 15);
    case DataType::kQ5_1:
      return plain_asymmetric(x, 31);
    case DataType::kQ4_K:
      return plain_k(x, importance, 15);
    case DataType::kQ5_K:
      return plain_k(x, importance, 31);
    default:
      return plain_q6_k(x, importance);
  }
}

/// Values of a kind: normal, with rare large ones, all of one sign, far from zero, sparse.
List random_values(RandomStream& random, size_t kind, size_t count) {
  List x(count);
  for (float& v : x) {
    const double normal = random.normal();
    v = static_cast<float>(kind == 1 && random.below(40) == 0 ? 20 * normal
                           : kind == 2                        ? std::abs(normal)
                           : kind == 3                        ? 10 + 0.1 * normal
                           : kind == 4                        ? (random.below(8) == 0 ? normal : 0)
                                                              : 0.02 * normal);
  }
  return x;
}

TEST(Pack, TheErrorIsAtMostThatOfThePlainRules) {
  constexpr size_t kRow = 1024;
  RandomStream random(3, "pack");
  for (const DataType type : {DataType::kQ8_0, DataType::kQ4_0, DataType::kQ4_1, DataType::kQ5_0,
                              DataType::kQ5_1, DataType::kQ4_K, DataType::kQ5_K, DataType::kQ6_K}) {
    for (size_t kind = 0; kind < 5; ++kind) {
      for (const bool weighted : {false, true}) {
        double mine = 0, reference = 0;
        for (int row = 0; row < 6; ++row) {
          const List x = random_values(random, kind, kRow);
          List importance;
          if (weighted)
            for (size_t i = 0; i < kRow; ++i)
              importance.push_back(static_cast<float>(std::exp(random.normal())));
          const List y = packed_and_unpacked(type, x, importance);
          mine += error_sum(x, y, importance);
          const auto block = static_cast<size_t>(block_elements(type));
          for (size_t i = 0; i < kRow; i += block) {
            const Values part = Values(x).subspan(i, block);
            const Values w = weighted ? Values(importance).subspan(i, block) : Values();
            reference += error_sum(part, plain(type, part, w, mean_square(x)), w);
          }
        }
        EXPECT_LE(mine, reference * (1 + 1e-6))
            << data_type_name(type) << ", values of kind " << kind << ", weighted: " << weighted;
        EXPECT_GT(mine, 0) << "random values are never held exactly";
      }
    }
  }
}

/// Sum of x y over sum of x^2: 1 when rounding makes x neither longer nor shorter along itself.
double length_kept(Values x, Values y) {
  double xy = 0, xx = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += static_cast<double>(x[i]) * y[i];
    xx += static_cast<double>(x[i]) * x[i];
  }
  return xy / xx;
}

TEST(Pack, RoundingDoesNotShrinkWeights) {
  // x = (8, 7.4, 0, ...): least squares gives d q = (8, 7) d with d = (64 + 51.8) / 113 = 1.0248, whose
  // product with x is 118.67 of 118.76; d = 118.76 / 115.8 = 1.0256 keeps it. Halves hold 1.0254.
  List two(32, 0.0F);
  two[0] = -8;
  two[1] = -7.4F;
  const List kept = packed_and_unpacked(DataType::kQ4_0, two);
  EXPECT_NEAR(kept[0], -8 * 1.0256, 8 * 0.0005);
  EXPECT_NEAR(length_kept(two, kept), 1, 0.0005);
  RandomStream random(8, "length");
  for (const DataType type : {DataType::kQ4_0, DataType::kQ5_0}) {
    const List x = random_values(random, 0, 1 << 16);
    EXPECT_NEAR(length_kept(x, packed_and_unpacked(type, x)), 1, 0.002) << data_type_name(type);
  }
  const List x = random_values(random, 0, 1 << 16);
  double shortened = 0;
  for (size_t i = 0; i < x.size(); i += 32) {
    const Values part = Values(x).subspan(i, 32);
    const float d = searched_scale(part, List(32, 1.0F), 8);
    List y;
    for (const float v : part) y.push_back(d * std::clamp(std::nearbyint(v / d), -8.0F, 7.0F));
    shortened += length_kept(part, y) / static_cast<double>(x.size() / 32);
  }
  EXPECT_LT(shortened, 0.995) << "what least squares alone would give";
}

TEST(Pack, ImportantColumnsAreRoundedBetter) {
  RandomStream random(5, "importance");
  const List x = random_values(random, 0, 256);
  List importance(256, 0.01F);
  for (size_t i = 0; i < 256; i += 4) importance[i] = 100;
  const auto error_of_important = [&](const List& y) {
    double sum = 0;
    for (size_t i = 0; i < 256; i += 4) sum += std::pow(x[i] - y[i], 2);
    return sum;
  };
  for (const DataType type : {DataType::kQ4_0, DataType::kQ4_K, DataType::kQ5_K, DataType::kQ6_K})
    EXPECT_LT(error_of_important(packed_and_unpacked(type, x, importance)),
              error_of_important(packed_and_unpacked(type, x)))
        << data_type_name(type);
}

TEST(Pack, ValuesThatABlockHoldsComeBackExactly) {
  List x(256);
  for (size_t i = 0; i < 256; ++i) x[i] = 0.5F * (static_cast<float>((i * 7) % 16) - 8);
  for (const DataType type :
       {DataType::kF32, DataType::kF16, DataType::kBF16, DataType::kQ4_0, DataType::kQ5_0})
    EXPECT_EQ(packed_and_unpacked(type, x), x) << data_type_name(type);
  for (float& v : x) v += 4;  // from 0 on
  for (const DataType type : {DataType::kQ4_1, DataType::kQ4_K})
    EXPECT_LT(error_sum(x, packed_and_unpacked(type, x)), 1e-3) << data_type_name(type);
}

TEST(Pack, ZerosConstantsAndTinyValuesAreNoTrouble) {
  for (const DataType type : {DataType::kQ8_0, DataType::kQ4_0, DataType::kQ4_1, DataType::kQ5_0,
                              DataType::kQ5_1, DataType::kQ4_K, DataType::kQ5_K, DataType::kQ6_K}) {
    for (const float value : {0.0F, 1.0F, -1.0F, 1000.0F, 1e-7F, -1e-9F, 1e-38F, 1e-45F}) {
      const List x(256, value);
      for (const List& importance : {List(), List(256, 0.0F), List(256, 3.0F)})
        for (const float v : packed_and_unpacked(type, x, importance))
          EXPECT_NEAR(v, value, 0.01 * std::abs(value) + 1e-6) << data_type_name(type);
    }
  }
}

TEST(Pack, RefusesWhatATypeCannotHold) {
  List x(256, 1.0F);
  const auto refused = [&](DataType type, float value) {
    x[7] = value;
    return error_of([&] { packed_and_unpacked(type, x); });
  };
  for (const DataType type :
       {DataType::kQ8_0, DataType::kQ4_0, DataType::kQ4_1, DataType::kQ4_K, DataType::kQ6_K}) {
    EXPECT_THAT(refused(type, NAN), AllOf(HasSubstr("no numbers"), HasSubstr(data_type_name(type))));
    EXPECT_THAT(refused(type, -INFINITY), HasSubstr("infinite"));
    for (const float large : {1e9F, -1e20F, 3.4e38F, -3.4e38F})
      EXPECT_THAT(refused(type, large), HasSubstr("too large"));
  }
  EXPECT_THAT(refused(DataType::kF16, 65520), HasSubstr("ends at 65504"));
  EXPECT_THAT(refused(DataType::kQ2_K, 1), HasSubstr("Q2_K is not written"));
  x[7] = INFINITY;
  EXPECT_EQ(packed_and_unpacked(DataType::kF16, x)[7], INFINITY) << "what was infinite stays so";
  x[7] = 1;
  std::vector<std::byte> out(34);
  error_of([&] { pack(DataType::kQ8_0, Values(x).first(32), 16, {}, out); });
  error_of([&] { pack(DataType::kQ8_0, Values(x).first(32), 32, Values(x).first(16), out); });
  error_of([&] { pack(DataType::kQ8_0, Values(x).first(64), 32, {}, out); });
}

}  // namespace
}  // namespace gatewright
