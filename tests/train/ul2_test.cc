#include "gatewright/train/ul2.h"

#include <gtest/gtest.h>

#include "gatewright/train/objective.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

constexpr int32_t kSentinel = 500;

/// Two rows of 40 places: two documents of 20 tokens; one of 30 and filling.
Batch two_rows() {
  const Tensor tokens = at::arange(80, at::kLong).view({2, 40}), targets = tokens + 1;
  targets[0][19] = 0;  // the end of the text
  targets[0][39] = 0;
  targets[1].slice(0, 30).fill_(-1);
  const Tensor first_key = at::zeros({2, 40}, at::kInt);
  first_key[0].slice(0, 20).fill_(20);
  return {.tokens = tokens, .targets = targets, .first_key = first_key, .real = targets >= 0};
}

TEST(Ul2, RewritesEveryDocumentInItsPlace) {
  RandomStream random(1, "ul2");
  const Batch before = two_rows();
  const Batch spans = denoised(before, {{1, 3, 0.3}}, kSentinel, 50, random);
  EXPECT_TRUE(at::equal(before.tokens, two_rows().tokens)) << "the batch itself stays";
  EXPECT_TRUE(at::equal(spans.first_key, before.first_key));
  for (const auto& [row, begin, end] : {std::tuple(0, 0, 20), {0, 20, 40}, {1, 0, 30}}) {
    const Tensor tokens = spans.tokens[row].slice(0, begin, end),
                 targets = spans.targets[row].slice(0, begin, end),
                 real = spans.real[row].slice(0, begin, end);
    const int64_t length = real.sum().item<int64_t>();
    EXPECT_GE(length, end - begin - 2);
    EXPECT_TRUE(real.slice(0, 0, length).all().item<bool>()) << "filling stands at the end";
    const Tensor of_text = tokens.slice(0, 0, length), known = of_text.masked_select(of_text < kSentinel);
    const int64_t offset = row * 40;
    EXPECT_TRUE(((known >= offset + begin) * (known < offset + end + 1) + (known == 0)).all().item<bool>())
        << "of this document";
    EXPECT_GT((targets >= 0).sum().item<int64_t>(), 0);
    EXPECT_EQ(tokens[0].item<int64_t>(), offset + begin) << "a span is never the first";
  }
  EXPECT_FALSE(spans.real[1].slice(0, 30).any().item<bool>());
}

TEST(Ul2, MixesItsDenoisersByTheirShares) {
  RandomStream random(2, "ul2");
  const Tensor tokens = at::zeros({2000, 8}, at::kLong), targets = at::ones({2000, 8}, at::kLong);
  const Batch made = denoised({.tokens = tokens, .targets = targets}, ul2_denoisers(), kSentinel, 50, random);
  const double with_spans = (made.tokens >= kSentinel).any(1).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(with_spans, 0.5, 0.04) << "the others have their second half asked for";
}

TEST(Ul2, IsForTheFirstPartOfATrainingAndTheSameForTheSameStep) {
  const auto& entry = objectives().at("ul2");
  const auto objective =
      entry.make(Values(entry.spec.parameters, {{"ul2_share", 0.5}, {"sentinels", int64_t{20}}}, "ul2"));
  EXPECT_EQ(objective->extra_tokens(), 20);
  const auto at_step = [&](int64_t step) {
    return objective->rewritten(two_rows(), {.step = step, .num_steps = 10, .vocab_size = 120});
  };
  EXPECT_FALSE(at_step(5)) << "the second half";
  const auto first = at_step(4), again = at_step(4), other = at_step(3);
  ASSERT_TRUE(first && again && other);
  EXPECT_TRUE(at::equal(first->tokens, again->tokens));
  EXPECT_FALSE(at::equal(first->tokens, other->tokens));
  EXPECT_LT(first->tokens.max().item<int64_t>(), 120);
}

}  // namespace
}  // namespace gatewright
