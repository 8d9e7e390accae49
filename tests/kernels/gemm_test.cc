#include "gatewright/kernels/cpu/gemm.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <limits>
#include <vector>

#include "each_target.h"
#include "random_values.h"

namespace gatewright::kernels {
namespace {

TEST(Gemm, MultipliesAHandCheckedExample) {
  const float a[] = {1, 2, 3, 4};  // [2, 2]
  const float b[] = {5, 6, 7, 8};
  float c[4] = {};
  gemm_nn(2, 2, 2, a, 2, b, 2, c, 2, false);
  EXPECT_EQ(std::vector<float>(c, c + 4), (std::vector<float>{19, 22, 43, 50}));
  gemm_nt(2, 2, 2, a, 2, b, 2, c, 2, false);
  EXPECT_EQ(std::vector<float>(c, c + 4), (std::vector<float>{17, 23, 39, 53}));
  gemm_tn(2, 2, 2, a, 2, b, 2, c, 2, true);
  EXPECT_EQ(std::vector<float>(c, c + 4), (std::vector<float>{17 + 26, 23 + 30, 39 + 38, 53 + 44}));
}

TEST(Gemm, AgreesWithThePlainLoopOnEveryTargetAndShape) {
  struct Shape {
    int64_t m, n, k;
  };
  for_each_target([] {
    RandomStream random(1, "gemm");
    for (const auto [m, n, k] : {Shape{1, 1, 1}, Shape{3, 5, 7}, Shape{15, 16, 33}, Shape{29, 67, 70},
                                 Shape{40, 33, 1100}, Shape{300, 290, 40}}) {
      for (int form = 0; form < 3; ++form) {
        SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k << " form " << form);
        const int64_t lda = (form == 2 ? m : k) + 3, ldb = (form == 0 ? k : n) + 1, ldc = n + 2;
        const auto a = normals((form == 2 ? k : m) * lda, random);
        const auto b = normals((form == 0 ? n : k) * ldb, random);
        auto c = normals(m * ldc, random);
        const auto before = c;
        const bool accumulate = form == 1;
        (form == 0   ? gemm_nt
         : form == 1 ? gemm_nn
                     : gemm_tn)(m, n, k, a.data(), lda, b.data(), ldb, c.data(), ldc, accumulate);
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < ldc; ++j) {
            const auto at = static_cast<size_t>(i * ldc + j);
            if (j >= n) {
              ASSERT_EQ(c[at], before[at]) << "wrote beyond the row";
              continue;
            }
            double sum = accumulate ? before[at] : 0.0, size = 1.0;
            for (int64_t q = 0; q < k; ++q) {
              const double product =
                  static_cast<double>(a[static_cast<size_t>(form == 2 ? q * lda + i : i * lda + q)]) *
                  static_cast<double>(b[static_cast<size_t>(form == 0 ? j * ldb + q : q * ldb + j)]);
              sum += product;
              size += std::abs(product);
            }
            ASSERT_NEAR(c[at], sum, 1e-6 * size) << "at " << i << ", " << j;
          }
        }
      }
    }
  });
}

TEST(Gemm, GivesTheSameBitsWithAnyNumberOfThreads) {
  RandomStream random(2, "gemm");
  constexpr int64_t m = 70, n = 300, k = 1300;
  const auto a = normals(m * k, random), b = normals(k * n, random);
  const auto product = [&](int threads) {
    std::vector<float> c(static_cast<size_t>(m * n));
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    gemm_nn(m, n, k, a.data(), k, b.data(), n, c.data(), n, false);
    omp_set_num_threads(before);
    return c;
  };
  EXPECT_EQ(product(1), product(3));
}

TEST(Gemm, OfNoTermsIsZero) {
  float c[2] = {3, 4};
  gemm_nn(1, 2, 0, nullptr, 1, nullptr, 2, c, 2, false);
  EXPECT_EQ(c[0], 0.0f);
  EXPECT_EQ(c[1], 0.0f);
}

TEST(Gemm, LetsNotANumberThrough) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float a[] = {0, nan};
  const float b[] = {1, 1};
  float c[1] = {};
  gemm_nt(1, 1, 2, a, 2, b, 2, c, 1, false);
  EXPECT_TRUE(std::isnan(c[0]));
}

}  // namespace
}  // namespace gatewright::kernels
