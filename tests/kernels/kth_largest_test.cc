#include "gatewright/kernels/cpu/kth_largest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "each_target.h"
#include "gatewright/base/random.h"

namespace gatewright::kernels {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

TEST(KthLargest, CountsEqualEntriesAsOftenAsTheyOccur) {
  const std::vector<float> values = {3, 1, 3, 2,  //
                                     5, 5, 5, 5};
  std::vector<float> out(2);
  kth_largest(values.data(), 2, 4, 2, out.data());
  EXPECT_EQ(out, (std::vector<float>{3, 5}));
  kth_largest(values.data(), 2, 4, 3, out.data());
  EXPECT_EQ(out, (std::vector<float>{2, 5}));
  kth_largest(values.data(), 2, 4, 5, out.data());
  EXPECT_EQ(out, (std::vector<float>{kNone, kNone})) << "a row has only 4 entries";
}

TEST(KthLargest, IsThePlaceInTheSortedRowOnEveryTarget) {
  for_each_target([] {
    RandomStream random(1, "rows");
    for (int64_t width : {1, 7, 32, 64, 100}) {
      for (int64_t rows : {1, 5, 16, 67}) {
        std::vector<float> values(static_cast<size_t>(rows * width)), out(static_cast<size_t>(rows));
        for (float& x : values) x = random.uniform() < 0.1f ? kNone : static_cast<float>(random.below(20));
        for (int64_t k : {int64_t{1}, int64_t{2}, int64_t{8}, kLargestK}) {
          kth_largest(values.data(), rows, width, k, out.data());
          for (int64_t r = 0; r < rows; ++r) {
            std::vector<float> row(values.begin() + r * width, values.begin() + (r + 1) * width);
            std::ranges::sort(row, std::greater<>());
            EXPECT_EQ(out[static_cast<size_t>(r)], k <= width ? row[static_cast<size_t>(k) - 1] : kNone);
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace gatewright::kernels
