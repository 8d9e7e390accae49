#include "gatewright/layers/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "tests/kernels/each_target.h"
#include "tests/random_tensors.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

/// Documents of random lengths packed into rows.
Tensor random_boundaries(int64_t rows, int64_t length, RandomStream& random) {
  Tensor first = at::empty({rows, length}, at::kInt);
  for (int64_t b = 0; b < rows; ++b) {
    int begin = 0;
    for (int64_t i = 0; i < length; ++i) {
      if (random.uniform() < 0.06f) begin = static_cast<int>(i);
      first[b][i] = begin;
    }
  }
  return first;
}

TEST(Attention, WithEqualScoresIsTheMeanOfTheValuesSeen) {
  const Tensor zeros = at::zeros({1, 4, 1, 1}), v = at::arange(1, 5, at::kFloat).view({1, 4, 1, 1});
  const Tensor all = attention(zeros, zeros, v).flatten();
  EXPECT_LT(difference(all, at::tensor({1.0, 1.5, 2.0, 2.5})), 1e-6);
  const Tensor two = attention(zeros, zeros, v, {.window = 2}).flatten();
  EXPECT_LT(difference(two, at::tensor({1.0, 1.5, 2.5, 3.5})), 1e-6);
  const Tensor first = at::tensor({0, 0, 2, 2}, at::kInt).view({1, 4});
  const Tensor documents = attention(zeros, zeros, v, {.first_key = first}).flatten();
  EXPECT_LT(difference(documents, at::tensor({1.0, 1.5, 3.0, 3.5})), 1e-6);
}

TEST(Attention, AndItsGradientsAgreeWithTheWholeSquareInFloat64) {
  RandomStream random(1, "attention");
  struct Case {
    int64_t batch, length, heads, kv_heads, dim, window;
    bool documents;
  };
  for (const Case c : {Case{2, 70, 4, 4, 32, 0, false}, Case{2, 150, 6, 2, 20, 0, true},
                       Case{1, 200, 2, 1, 16, 17, true}, Case{3, 1, 2, 2, 8, 0, false}}) {
    const Tensor q = leaf(normals({c.batch, c.length, c.heads, c.dim}, random));
    const Tensor k = leaf(normals({c.batch, c.length, c.kv_heads, c.dim}, random));
    const Tensor v = leaf(normals({c.batch, c.length, c.kv_heads, c.dim}, random));
    AttentionMask mask = {.window = c.window};
    if (c.documents) mask.first_key = random_boundaries(c.batch, c.length, random);
    const Tensor grad = normals(q.sizes(), random);
    const Tensor out = attention(q, k, v, mask);
    out.backward(grad);
    const Tensor q64 = double_leaf(q), k64 = double_leaf(k), v64 = double_leaf(v);
    const Tensor expected = attention_by_tensor_operations(q64, k64, v64, mask);
    expected.backward(grad.to(at::kDouble));
    EXPECT_LT(difference(out, expected), 1e-5);
    EXPECT_LT(difference(q.grad(), q64.grad()), 1e-5);
    EXPECT_LT(difference(k.grad(), k64.grad()), 1e-5);
    EXPECT_LT(difference(v.grad(), v64.grad()), 1e-5);
  }
}

TEST(Attention, ByTensorOperationsAgreesWithAPlainLoopOverKeys) {
  RandomStream random(2, "attention");
  const int64_t length = 23, window = 6;
  const Tensor q = normals({1, length, 1, 4}, random), k = normals({1, length, 1, 4}, random);
  const Tensor v = normals({1, length, 1, 4}, random), first = random_boundaries(1, length, random);
  const Tensor out = attention_by_tensor_operations(q, k, v, {.first_key = first, .window = window});
  for (int64_t i = 0; i < length; ++i) {
    const int64_t begin = std::max<int64_t>(first[0][i].item<int>(), i - window + 1);
    double sum = 0;
    Tensor expected = at::zeros({4}, at::kDouble);
    for (int64_t j = begin; j <= i; ++j) {
      const double weight = std::exp((q[0][i][0] * k[0][j][0]).sum().item<double>() / 2);
      sum += weight;
      expected += weight * v[0][j][0].to(at::kDouble);
    }
    EXPECT_LT(difference(out[0][i][0], expected / sum), 1e-5);
  }
}

TEST(AttentionWithCache, GivesWhatOnePassGives) {
  RandomStream random(3, "cache");
  const Tensor q = normals({2, 150, 4, 8}, random), k = normals({2, 150, 2, 8}, random);
  const Tensor v = normals({2, 150, 2, 8}, random);
  for (const int64_t window : {0, 9}) {
    const Tensor whole = attention(q, k, v, {.window = window});
    KeyValueCache cache;
    int64_t at = 0;
    for (const int64_t count : {5, 1, 1, 60, 1, 82}) {
      const auto part = [&](const Tensor& t) { return t.narrow(1, at, count); };
      const Tensor out = attention_with_cache(part(q), part(k), part(v), cache, {.window = window});
      EXPECT_LT(difference(out, part(whole)), 1e-5);
      at += count;
    }
    EXPECT_EQ(cache.length, 150);
  }
}

TEST(AttentionWithCache, OfFewQueriesAgreesWithTheWholeSquareOnEveryTarget) {
  RandomStream random(4, "cache");
  const int64_t length = 41, heads = 6;
  for (const int64_t dim : {4, 24, 80}) {
    const Tensor q = normals({2, length, heads, dim}, random), k = normals({2, length, 3, dim}, random);
    const Tensor v = normals({2, length, 3, dim}, random), sinks = normals({heads}, random);
    const Tensor first = random_boundaries(2, length, random);
    kernels::for_each_target([&] {
      for (const AttentionMask& mask : {AttentionMask{}, AttentionMask{.first_key = first, .scale = 0.7},
                                        AttentionMask{.window = 7, .sinks = sinks}}) {
        const Tensor whole = attention_by_tensor_operations(q, k, v, mask);
        KeyValueCache cache;
        int64_t at = 0;
        for (const int64_t count : {3, 1, 8, 5, 1, 23}) {
          const auto part = [&](const Tensor& t) { return t.narrow(1, at, count); };
          AttentionMask of_part = mask;
          if (mask.first_key.defined()) of_part.first_key = part(mask.first_key);
          EXPECT_LT(difference(attention_with_cache(part(q), part(k), part(v), cache, of_part), part(whole)),
                    1e-5)
              << dim << " from " << at;
          at += count;
        }
      }
    });
  }
}

/// Each path of a tree is a text: what is at its end sees the same, by the kernel (8 tokens) and by products
/// (20).
TEST(AttentionWithCache, OfATreeIsThatOfItsPathsOnEveryTarget) {
  RandomStream random(6, "tree");
  constexpr int64_t kBefore = 11;
  for (const int64_t nodes : {8, 20}) {
    std::vector<int64_t> parents;
    for (int64_t i = 0; i < nodes; ++i)
      parents.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(i + 1))) - 1);
    const TokenTree tree = make_token_tree(parents);
    const Tensor q = normals({1, kBefore + nodes, 4, 24}, random),
                 k = normals({1, kBefore + nodes, 2, 24}, random),
                 v = normals({1, kBefore + nodes, 2, 24}, random);
    kernels::for_each_target([&] {
      for (const int64_t window : {0, 2, 6, 14}) {
        KeyValueCache cache;
        append(cache, k.narrow(1, 0, kBefore), v.narrow(1, 0, kBefore));
        const auto added = [&](const Tensor& t) { return t.narrow(1, kBefore, nodes); };
        const Tensor out =
            attention_with_cache(added(q), added(k), added(v), cache, {.window = window, .tree = &tree});
        for (int64_t i = 0; i < nodes; ++i) {
          std::vector<int64_t> path;
          for (int64_t n = i; n >= 0; n = parents[static_cast<size_t>(n)])
            path.insert(path.begin(), kBefore + n);
          for (int64_t t = kBefore - 1; t >= 0; --t) path.insert(path.begin(), t);
          EXPECT_EQ(tree.depth[static_cast<size_t>(i)], std::ssize(path) - kBefore - 1);
          const Tensor text = at::tensor(path);
          const Tensor alone = attention_by_tensor_operations(
              q.index_select(1, text), k.index_select(1, text), v.index_select(1, text), {.window = window});
          EXPECT_LT(difference(out.select(1, i), alone.select(1, -1)), 1e-5)
              << "node " << i << " of " << nodes << ", window " << window;
        }
      }
    });
  }
}

TEST(TokenTree, RefusesParentsThatDoNotComeFirst) {
  EXPECT_EQ(error_of([] {
              make_token_tree(std::vector<int64_t>{-1, 1});
            }),
            "the parent of token 1 of a tree must come before it, got 1");
  EXPECT_EQ(error_of([] { make_token_tree(std::vector<int64_t>{-2}); }),
            "the parent of token 0 of a tree must come before it, got -2");
}

TEST(AttentionWithCache, GivesTheSameBitsWithAnyNumberOfThreads) {
  RandomStream random(5, "cache");
  const int64_t length = 700;
  const Tensor q = normals({1, length, 9, 64}, random), k = normals({1, length, 3, 64}, random);
  const Tensor v = normals({1, length, 3, 64}, random);
  const auto last = [&](int threads) {
    set_num_threads(threads);
    KeyValueCache cache;
    append(cache, k.narrow(1, 0, length - 1), v.narrow(1, 0, length - 1));
    const auto part = [&](const Tensor& t) { return t.narrow(1, length - 1, 1); };
    return attention_with_cache(part(q), part(k), part(v), cache);
  };
  const int before = num_threads();
  const Tensor alone = last(1);
  for (const int threads : {2, 3, 9}) EXPECT_TRUE(at::equal(last(threads), alone)) << threads;
  set_num_threads(before);
}

TEST(Attention, RefusesHeadsThatDoNotDivide) {
  const Tensor q = at::zeros({1, 2, 3, 4}), k = at::zeros({1, 2, 2, 4});
  try {
    attention(q, k, k);
    FAIL() << "accepted 3 query heads over 2 key-value heads";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("3 query heads"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace gatewright
