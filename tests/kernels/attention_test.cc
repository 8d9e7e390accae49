#include "gatewright/kernels/cpu/attention.h"

#include <gtest/gtest.h>
#include <omp.h>

#include "each_target.h"
#include "random_values.h"

namespace gatewright::kernels {
namespace {

struct Tensors {
  std::vector<float> q, k, v, out, log_sum, grad_out, grad_q, grad_k, grad_v;
};

Tensors random_tensors(const AttentionSizes& s, RandomStream& random) {
  const int64_t queries = s.batch * s.length * s.heads * s.head_dim;
  const int64_t keys = s.batch * s.length * s.kv_heads * s.head_dim;
  const auto nothing = [](int64_t count) { return std::vector<float>(static_cast<size_t>(count), NAN); };
  return {.q = normals(queries, random),
          .k = normals(keys, random),
          .v = normals(keys, random),
          .out = nothing(queries),
          .log_sum = nothing(s.batch * s.heads * s.length),
          .grad_out = normals(queries, random),
          .grad_q = nothing(queries),
          .grad_k = nothing(keys),
          .grad_v = nothing(keys)};
}

void run_attention(const AttentionSizes& s, Tensors& t) {
  attention_forward(s, t.q.data(), t.k.data(), t.v.data(), t.out.data(), t.log_sum.data());
  attention_backward(s, t.q.data(), t.k.data(), t.v.data(), t.out.data(), t.log_sum.data(), t.grad_out.data(),
                     t.grad_q.data(), t.grad_k.data(), t.grad_v.data());
}

struct ExpectedAttention {
  std::vector<double> out, log_sum, grad_q, grad_k, grad_v;
};

/// Query by query in float64.
ExpectedAttention attention_loops(const AttentionSizes& s, const Tensors& t) {
  ExpectedAttention e = {std::vector<double>(t.out.size()), std::vector<double>(t.log_sum.size()),
                         std::vector<double>(t.q.size()), std::vector<double>(t.k.size()),
                         std::vector<double>(t.v.size())};
  const auto index = [](int64_t i) { return static_cast<size_t>(i); };
  for (int64_t row = 0; row < s.batch; ++row) {
    for (int64_t head = 0; head < s.heads; ++head) {
      for (int64_t i = 0; i < s.length; ++i) {
        const auto q = [&](int64_t d) {
          return index(((row * s.length + i) * s.heads + head) * s.head_dim + d);
        };
        const auto k = [&](int64_t j, int64_t d) {
          return index(((row * s.length + j) * s.kv_heads + head / (s.heads / s.kv_heads)) * s.head_dim + d);
        };
        int64_t first = s.first_key ? s.first_key[row * s.length + i] : 0;
        if (s.window > 0) first = std::max(first, i - s.window + 1);
        std::vector<double> p;
        double sum = 0, mean = 0;
        for (int64_t j = first; j <= i; ++j) {
          double score = 0;
          for (int64_t d = 0; d < s.head_dim; ++d) score += double{t.q[q(d)]} * double{t.k[k(j, d)]};
          p.push_back(std::exp(score * double{s.scale}));
          sum += p.back();
        }
        e.log_sum[index((row * s.heads + head) * s.length + i)] = std::log(sum);
        for (int64_t j = first; j <= i; ++j) {
          p[index(j - first)] /= sum;
          for (int64_t d = 0; d < s.head_dim; ++d) e.out[q(d)] += p[index(j - first)] * double{t.v[k(j, d)]};
        }
        for (int64_t d = 0; d < s.head_dim; ++d) mean += e.out[q(d)] * double{t.grad_out[q(d)]};
        for (int64_t j = first; j <= i; ++j) {
          double grad_p = 0;
          for (int64_t d = 0; d < s.head_dim; ++d) grad_p += double{t.grad_out[q(d)]} * double{t.v[k(j, d)]};
          const double grad_score = p[index(j - first)] * (grad_p - mean) * double{s.scale};
          for (int64_t d = 0; d < s.head_dim; ++d) {
            e.grad_q[q(d)] += grad_score * double{t.k[k(j, d)]};
            e.grad_k[k(j, d)] += grad_score * double{t.q[q(d)]};
            e.grad_v[k(j, d)] += p[index(j - first)] * double{t.grad_out[q(d)]};
          }
        }
      }
    }
  }
  return e;
}

TEST(AttentionKernel, AgreesWithPlainLoopsOnEveryTarget) {
  const std::vector<AttentionSizes> cases = {
      {.batch = 1, .length = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .scale = 1},
      {.batch = 2, .length = 33, .heads = 2, .kv_heads = 1, .head_dim = 7, .scale = 0.4f},
      {.batch = 1, .length = 70, .heads = 4, .kv_heads = 2, .head_dim = 32, .scale = 0.2f},
      {.batch = 1, .length = 100, .heads = 1, .kv_heads = 1, .head_dim = 40, .window = 9, .scale = 0.2f},
      {.batch = 1, .length = 65, .heads = 1, .kv_heads = 1, .head_dim = 70, .window = 64, .scale = 0.1f}};
  for_each_target([&] {
    RandomStream random(1, "attention");
    for (AttentionSizes s : cases) {
      for (const bool documents : {false, true}) {
        SCOPED_TRACE(::testing::Message() << s.length << " x " << s.head_dim << (documents ? " cut" : ""));
        std::vector<int32_t> first_key(static_cast<size_t>(s.batch * s.length));
        for (size_t i = 1; i < first_key.size(); ++i) {
          const auto at = static_cast<int32_t>(i % static_cast<size_t>(s.length));
          first_key[i] = at == 0 ? 0 : random.uniform() < 0.05f ? at : first_key[i - 1];
        }
        s.first_key = documents ? first_key.data() : nullptr;
        Tensors t = random_tensors(s, random);
        run_attention(s, t);
        const ExpectedAttention e = attention_loops(s, t);
        EXPECT_LT(largest_difference(t.out, e.out), 1e-5);
        EXPECT_LT(largest_difference(t.log_sum, e.log_sum), 1e-5);
        EXPECT_LT(largest_difference(t.grad_q, e.grad_q), 2e-5);
        EXPECT_LT(largest_difference(t.grad_k, e.grad_k), 2e-5);
        EXPECT_LT(largest_difference(t.grad_v, e.grad_v), 2e-5);
      }
    }
  });
}

TEST(AttentionKernel, StaysFiniteWithLargeScores) {
  const AttentionSizes s = {.batch = 1, .length = 40, .heads = 1, .kv_heads = 1, .head_dim = 4, .scale = 1};
  RandomStream random(2, "attention");
  Tensors t = random_tensors(s, random);
  for (float& v : t.q) v *= 1000;
  run_attention(s, t);
  for (const auto* values : {&t.out, &t.log_sum, &t.grad_q, &t.grad_k, &t.grad_v}) {
    for (const float v : *values) ASSERT_TRUE(std::isfinite(v));
  }
}

TEST(AttentionKernel, GivesTheSameBitsWithAnyNumberOfThreads) {
  const AttentionSizes s = {
      .batch = 2, .length = 50, .heads = 4, .kv_heads = 2, .head_dim = 16, .scale = 0.25f};
  RandomStream random(3, "attention");
  Tensors one = random_tensors(s, random), three = one;
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  run_attention(s, one);
  omp_set_num_threads(3);
  run_attention(s, three);
  omp_set_num_threads(before);
  EXPECT_EQ(one.out, three.out);
  EXPECT_EQ(one.grad_q, three.grad_q);
  EXPECT_EQ(one.grad_k, three.grad_k);
  EXPECT_EQ(one.grad_v, three.grad_v);
}

}  // namespace
}  // namespace gatewright::kernels
