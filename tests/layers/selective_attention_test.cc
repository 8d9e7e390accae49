// Attention whose heads are experts (Union of Experts 2025): against plain attention, by hand, and with a
// cache.
#include "gatewright/layers/selective_attention.h"

#include <gmock/gmock.h>

#include "gatewright/base/error.h"
#include "gatewright/layers/linear.h"
#include "tests/random_tensors.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

constexpr int64_t kRows = 2, kLength = 9, kHidden = 8, kHeads = 4, kDim = 6;

struct Setting {
  RandomStream random{1, "selective attention"};
  Tensor x = normals({kRows, kLength, kHidden}, random);
  HeadWeights weights{.query = normals({kHeads * kDim, kHidden}, random) * 0.4,
                      .key = normals({kHeads * kDim, kHidden}, random) * 0.4,
                      .value = normals({kHeads * kDim, kHidden}, random) * 0.4,
                      .output = normals({kHidden, kHeads* kDim}, random) * 0.4};

  HeadWeights in_double() const {
    HeadWeights w = weights;
    for (Tensor* t : {&w.query, &w.key, &w.value, &w.output, &w.output_bias}) {
      if (t->defined()) *t = t->to(at::kDouble);
    }
    return w;
  }
};

/// mask bool [B S, H]: which heads serve a token.
Assignment lists_of(const Tensor& mask) {
  const Tensor cells = mask.t().nonzero();  // by head, tokens ascending
  const Tensor counts = mask.to(at::kLong).sum(0);
  return {.expert_begin = at::cat({at::zeros({1}, at::kLong), counts.cumsum(0)}),
          .token = cells.select(1, 1).contiguous(),
          .weight = at::ones({cells.size(0)}),
          .num_tokens = mask.size(0)};
}

Tensor full_mask() { return at::ones({kRows * kLength, kHeads}, at::kBool); }

/// About half of the heads of each token.
Tensor random_mask(uint64_t seed) {
  RandomStream random(seed, "mask");
  Tensor mask = at::zeros({kRows * kLength, kHeads}, at::kBool);
  for (int64_t i = 0; i < mask.numel(); ++i) mask.data_ptr<bool>()[i] = random.uniform() < 0.5f;
  return mask;
}

Tensor positions_from(const Tensor& first_key) {
  const Tensor index = at::arange(kLength, at::kLong).unsqueeze(0).expand({kRows, kLength});
  return first_key.defined() ? index - first_key.to(at::kLong) : index.clone();
}

/// Plain attention in which keys of tokens that a head does not serve are left out, head by head and query by
/// query.
Tensor by_hand(const Tensor& x, const Tensor& mask, const HeadWeights& w, const SelectiveOptions& o) {
  const Tensor flat = x.reshape({-1, kHidden});
  Tensor result = at::zeros_like(flat);
  const Tensor served = mask.view({kRows, kLength, kHeads});
  for (int64_t b = 0; b < kRows; ++b) {
    for (int64_t h = 0; h < kHeads; ++h) {
      const auto own = [&](const Tensor& weight) { return x[b].mm(weight.narrow(0, h * kDim, kDim).t()); };
      Tensor q = own(w.query), k = own(w.key);
      const Tensor v = own(w.value);
      if (o.rotary) {
        Tensor positions = positions_from(o.first_key)[b].unsqueeze(0).contiguous();
        const auto turn = [&](const Tensor& t) {
          return rotary_by_tensor_operations(t.view({1, kLength, 1, kDim}), *o.rotary, positions)
              .view({kLength, kDim});
        };
        if (o.subsequence_positions) {
          positions = positions.clone();
          for (int64_t i = 0, count = 0, document = 0; i < kLength; ++i) {
            const int64_t first = o.first_key.defined() ? o.first_key[b][i].item<int64_t>() : 0;
            if (first != document) count = 0, document = first;
            positions[0][i] = count;
            count += served[b][i][h].item<bool>();
          }
        }
        q = turn(q), k = turn(k);
      }
      for (int64_t i = 0; i < kLength; ++i) {
        if (!served[b][i][h].item<bool>()) continue;
        std::vector<int64_t> seen;
        for (int64_t j = 0; j <= i; ++j) {
          const bool in_window = o.window == 0 || j > i - o.window;
          const bool in_document = !o.first_key.defined() || j >= o.first_key[b][i].item<int64_t>();
          if (served[b][j][h].item<bool>() && in_window && in_document) seen.push_back(j);
        }
        const Tensor index = at::tensor(seen, at::kLong);
        const Tensor p =
            at::softmax(k.index_select(0, index).mv(q[i]) / std::sqrt(static_cast<double>(kDim)), 0);
        const Tensor head = v.index_select(0, index).t().mv(p);
        result[b * kLength + i] += w.output.narrow(1, h * kDim, kDim).mv(head);
      }
    }
  }
  if (w.output_bias.defined()) result += mask.any(1).unsqueeze(1).to(result.scalar_type()) * w.output_bias;
  return result.view(x.sizes());
}

SelectiveOptions various(int64_t which, const RotaryTable& table) {
  SelectiveOptions o{.rotary = &table};
  if (which % 2 == 1) {
    o.first_key = at::zeros({kRows, kLength}, at::kInt);
    o.first_key.slice(1, 3).fill_(3);
    o.first_key[1].slice(0, 7).fill_(7);
  }
  if (which >= 2) o.window = 3;
  o.subsequence_positions = which >= 4;
  return o;
}

TEST(SelectiveAttention, OfAllHeadsIsPlainAttention) {
  Setting s;
  s.weights.output_bias = normals({kHidden}, s.random);
  const RotaryTable table = make_rotary_table(kLength, kDim, 100);
  for (const int64_t which : {0, 1, 2, 3}) {
    const SelectiveOptions o = various(which, table);
    const auto plain = [&](const Tensor& x, const HeadWeights& w) {
      const auto heads = [&](const Tensor& weight) {
        return linear_layer(x, weight).view({kRows, kLength, kHeads, kDim});
      };
      const Tensor positions = positions_from(o.first_key).contiguous();
      const Tensor mixed =
          attention(rotary(heads(w.query), table, positions), rotary(heads(w.key), table, positions),
                    heads(w.value), {.first_key = o.first_key, .window = o.window});
      return linear_layer(mixed.reshape({kRows, kLength, kHeads * kDim}), w.output, w.output_bias);
    };
    const Tensor x = s.x.to(at::kDouble);
    EXPECT_LT(
        difference(selective_attention(x, lists_of(full_mask()), s.in_double(), o), plain(x, s.in_double())),
        1e-12);
    EXPECT_LT(
        difference(selective_attention(s.x, lists_of(full_mask()), s.weights, o), plain(s.x, s.weights)),
        1e-4);
  }
}

TEST(SelectiveAttention, WithPermutedHeadsIsTheSame) {
  const Setting s;
  const HeadWeights w = s.in_double();
  HeadWeights permuted = w;
  std::vector<int64_t> order;
  for (const int64_t head : {2, 0, 3, 1}) {
    for (int64_t i = 0; i < kDim; ++i) order.push_back(head * kDim + i);
  }
  const Tensor index = at::tensor(order, at::kLong);
  for (Tensor* t : {&permuted.query, &permuted.key, &permuted.value}) *t = t->index_select(0, index);
  permuted.output = w.output.index_select(1, index);
  const Tensor x = s.x.to(at::kDouble);
  EXPECT_LT(difference(selective_attention(x, lists_of(full_mask()), permuted),
                       selective_attention(x, lists_of(full_mask()), w)),
            1e-12);
}

TEST(SelectiveAttention, LooksAtTheTokensOfEachListOnly) {
  Setting s;
  s.weights.output_bias = normals({kHidden}, s.random);
  const RotaryTable table = make_rotary_table(kLength, kDim, 100);
  for (int64_t which = 0; which < 6; ++which) {
    const SelectiveOptions o = various(which, table);
    const Tensor mask = random_mask(static_cast<uint64_t>(which) + 1), x = s.x.to(at::kDouble);
    const Tensor expected = by_hand(x, mask, s.in_double(), o);
    EXPECT_LT(difference(selective_attention(x, lists_of(mask), s.in_double(), o), expected), 1e-12) << which;
    EXPECT_LT(difference(selective_attention(s.x, lists_of(mask), s.weights, o), expected), 1e-4) << which;
  }
}

TEST(SelectiveAttention, OfATokenWithoutHeadsIsZero) {
  Setting s;
  s.weights.output_bias = normals({kHidden}, s.random);
  Tensor mask = random_mask(1);
  mask[4] = false;
  const Tensor out = selective_attention(s.x, lists_of(mask), s.weights);
  EXPECT_EQ(out[0][4].abs().max().item<double>(), 0) << "the residual carries it";
  EXPECT_EQ(selective_attention(s.x, lists_of(at::zeros_like(mask)), s.weights).abs().max().item<double>(),
            0);
}

TEST(SelectiveAttention, OfOneTokenInAListIsItsValueThroughTheOutput) {
  const Setting s;
  Tensor mask = at::zeros({kRows * kLength, kHeads}, at::kBool);
  mask[5][2] = true;
  const Tensor out = selective_attention(s.x, lists_of(mask), s.weights);
  const Tensor value = s.weights.value.narrow(0, 2 * kDim, kDim).mv(s.x[0][5]);
  EXPECT_LT(difference(out[0][5], s.weights.output.narrow(1, 2 * kDim, kDim).mv(value)), 1e-5);
  HeadWeights other = s.weights;
  other.query = s.weights.query * 7;
  other.key = -s.weights.key;
  EXPECT_LT(difference(selective_attention(s.x, lists_of(mask), other), out), 1e-6);
}

TEST(SelectiveAttention, MultipliesHeadsByTheirWeights) {
  const Setting s;
  Assignment lists = lists_of(random_mask(3));
  const Tensor once = selective_attention(s.x, lists, s.weights);
  lists.weight = lists.weight * 0.25;
  EXPECT_LT(difference(selective_attention(s.x, lists, s.weights), once * 0.25), 1e-5);
}

TEST(SelectiveAttention, HasTheGradientsOfFloat64) {
  Setting s;
  const RotaryTable table = make_rotary_table(kLength, kDim, 100);
  const SelectiveOptions o = various(3, table);
  const Assignment lists = lists_of(random_mask(2));
  HeadWeights fast = s.weights, exact = s.weights;
  for (Tensor HeadWeights::*member :
       {&HeadWeights::query, &HeadWeights::key, &HeadWeights::value, &HeadWeights::output}) {
    fast.*member = leaf(s.weights.*member);
    exact.*member = double_leaf(s.weights.*member);
  }
  const Tensor x = leaf(s.x), y = double_leaf(s.x), direction = normals(s.x.sizes(), s.random);
  (selective_attention(x, lists, fast, o) * direction).sum().backward();
  (selective_attention(y, lists, exact, o) * direction).sum().backward();
  EXPECT_LT(difference(x.grad(), y.grad()), 1e-4);
  for (Tensor HeadWeights::*member :
       {&HeadWeights::query, &HeadWeights::key, &HeadWeights::value, &HeadWeights::output})
    EXPECT_LT(difference((fast.*member).grad(), (exact.*member).grad()), 1e-3);
}

TEST(SelectiveAttention, NormalisesQueriesAndKeysOfEachHead) {
  Setting s;
  s.weights.query_norm = at::full({kDim}, 2.0f);
  s.weights.key_norm = at::full({kDim}, 0.5f);
  const Assignment lists = lists_of(random_mask(2));
  const Tensor once = selective_attention(s.x, lists, s.weights);
  s.weights.query = s.weights.query * 3;  // which a norm does not notice
  EXPECT_LT(difference(selective_attention(s.x, lists, s.weights), once), 1e-3);
}

TEST(SelectiveAttention, WithACacheIsThatOfTheWholeText) {
  const Setting s;
  const RotaryTable table = make_rotary_table(kLength, kDim, 100);
  for (int64_t which = 0; which < 6; ++which) {
    const SelectiveOptions o = various(which, table);
    const Tensor mask = random_mask(static_cast<uint64_t>(which) + 7);
    const Tensor whole = selective_attention(s.x, lists_of(mask), s.weights, o);
    KeyValueCache cache;
    int64_t begin = 0;
    for (const int64_t size : {4, 1, 1, 3}) {
      SelectiveOptions part = o;
      if (o.first_key.defined()) part.first_key = o.first_key.narrow(1, begin, size).contiguous();
      const Tensor own = mask.view({kRows, kLength, kHeads}).narrow(1, begin, size).reshape({-1, kHeads});
      const Tensor out =
          selective_attention_with_cache(s.x.narrow(1, begin, size), lists_of(own), s.weights, cache, part);
      EXPECT_LT(difference(out, whole.narrow(1, begin, size)), 1e-4) << which << " from " << begin;
      begin += size;
    }
    EXPECT_EQ(cache.length, kLength);
  }
}

TEST(SelectiveAttention, OfNoTokensIsEmpty) {
  const Setting s;
  const Assignment none = lists_of(at::zeros({0, kHeads}, at::kBool));
  EXPECT_EQ(selective_attention(at::zeros({1, 0, kHidden}), none, s.weights).numel(), 0);
  EXPECT_EQ(selective_attention(at::zeros({0, 4, kHidden}), none, s.weights).numel(), 0);
}

TEST(SelectiveAttention, CostsHalfTheProjectionsAndAQuarterOfTheScoresWithHalfOfTheHeads) {
  const std::vector<int64_t> dense(kHeads, 32),
      half(kHeads, 16);  // evenly spread: each head serves every other token
  const AttentionCost all = selective_cost(dense, kHidden, kDim), some = selective_cost(half, kHidden, kDim);
  EXPECT_EQ(all.projections, 4.0 * 32 * kHidden * kHeads * kDim);
  EXPECT_EQ(some.projections / all.projections, 0.5);
  EXPECT_EQ(some.scores / all.scores, 0.25);
}

template <typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SelectiveAttention, RefusesWidthsThatDoNotDivide) {
  const Setting s;
  const Assignment five = lists_of(at::ones({kRows * kLength, 5}, at::kBool));
  EXPECT_EQ(error_of([&] { selective_attention(s.x, five, s.weights); }),
            "[selective_attention] a width of 24 cannot be cut into 5 equal heads");
  EXPECT_THAT(error_of([&] { selective_attention(s.x[0], lists_of(full_mask()), s.weights); }),
              HasSubstr("[B, S, d]"));
  KeyValueCache plain{
      .keys = at::zeros({1, 64, kHeads, kDim}), .values = at::zeros({1, 64, kHeads, kDim}), .length = 3};
  EXPECT_THAT(error_of([&] { selective_attention_with_cache(s.x, lists_of(full_mask()), s.weights, plain); }),
              HasSubstr("filled by another kind"));
}

}  // namespace
}  // namespace gatewright
