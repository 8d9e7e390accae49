#include "gatewright/text/denoising.h"

#include <gmock/gmock.h>

#include <numeric>

#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;

constexpr int32_t kSentinel = 1000;

std::vector<int32_t> text_of(int64_t tokens) {
  std::vector<int32_t> text(static_cast<size_t>(tokens));
  std::iota(text.begin(), text.end(), 1);
  return text;
}

/// The text that the answer makes of the question: spans put back where their sentinels stand.
std::vector<int32_t> put_together(const DenoisedText& made) {
  size_t asked = 0;
  while (made.targets[asked] < 0) ++asked;
  std::vector<int32_t> answer(made.targets.begin() + static_cast<std::ptrdiff_t>(asked), made.targets.end());
  std::vector<int32_t> text;
  for (size_t i = 0; i <= asked; ++i) {
    const int32_t token = made.tokens[i];
    if (token < kSentinel) {
      text.push_back(token);
      continue;
    }
    auto at = std::ranges::find(answer, token);
    EXPECT_NE(at, answer.end()) << "no answer for a sentinel";
    for (++at; at != answer.end() && *at < kSentinel; ++at) text.push_back(*at);
  }
  return text;
}

TEST(Denoising, AsksForTheEndOfAText) {
  const DenoisedText half = with_asked_end(text_of(9), 0.5);
  EXPECT_THAT(half.tokens, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(half.targets, ElementsAre(-1, -1, -1, -1, 6, 7, 8, 9));
  EXPECT_THAT(with_asked_end(text_of(2), 0.1).targets, ElementsAre(2));
  EXPECT_THAT(with_asked_end(text_of(3), 1.0).targets, ElementsAre(2, 3));
  EXPECT_EQ(error_of([] { with_asked_end(text_of(1), 0.5); }), "a text of 1 tokens has nothing to ask for");
}

TEST(Denoising, SpansAndWhatIsLeftAreTheBeginningOfTheText) {
  RandomStream random(1, "denoising");
  for (const int64_t tokens : {5, 6, 12, 40, 129, 1000}) {
    for (const auto& [mean, rate] :
         {std::pair(3.0, 0.15), {8.0, 0.15}, {3.0, 0.5}, {8.0, 0.5}, {64.0, 0.5}}) {
      const std::vector<int32_t> text = text_of(tokens);
      const DenoisedText made =
          with_asked_spans(text, {.mean_length = mean, .rate = rate, .first_sentinel = kSentinel}, random);
      ASSERT_EQ(made.tokens.size(), made.targets.size());
      ASSERT_LT(made.tokens.size(), text.size());
      const std::vector<int32_t> whole = put_together(made);
      ASSERT_LE(whole.size(), text.size());
      EXPECT_TRUE(std::equal(whole.begin(), whole.end(), text.begin())) << tokens << " " << mean;
      EXPECT_GE(made.tokens.size() + 3, text.size()) << "as much as fits";
      for (size_t i = 0; i + 1 < made.tokens.size(); ++i) {
        const bool is_next = made.targets[i] < 0 || made.targets[i] == made.tokens[i + 1];
        ASSERT_TRUE(is_next) << i;
      }
    }
  }
}

TEST(Denoising, SpansHaveTheirMeanLengthAndShare) {
  RandomStream random(2, "denoising");
  const auto counts = [&](double mean, double rate, int64_t sentinels) {
    const DenoisedText made = with_asked_spans(
        text_of(1001),
        {.mean_length = mean, .rate = rate, .first_sentinel = kSentinel * 10, .num_sentinels = sentinels},
        random);
    int64_t asked = 0, named = 0;
    for (int32_t target : made.targets) {
      asked += target >= 0 && target < kSentinel * 10;
      named += target >= kSentinel * 10;
    }
    return std::pair(asked, named - 1);  // without the sentinel that ends it
  };
  const auto [asked, spans] = counts(3, 0.5, 1000);
  EXPECT_NEAR(static_cast<double>(asked), 375, 2) << "750 of the 1000 tokens fit, half of them are removed";
  EXPECT_NEAR(static_cast<double>(asked) / static_cast<double>(spans), 3, 0.05);
  EXPECT_EQ(counts(64, 0.5, 1000).second, 8);
  EXPECT_EQ(counts(3, 0.5, 10).second, 9) << "the last one ends the answer";
}

TEST(Denoising, DrawsOtherSpansEachTimeAndTheSameFromTheSameStream) {
  const SpanRule rule{.first_sentinel = kSentinel};
  RandomStream a(3, "denoising"), b(3, "denoising");
  const DenoisedText first = with_asked_spans(text_of(100), rule, a);
  EXPECT_EQ(first.tokens, with_asked_spans(text_of(100), rule, b).tokens);
  EXPECT_NE(first.tokens, with_asked_spans(text_of(100), rule, a).tokens);
}

TEST(Denoising, AsksForTheEndWhereThereIsNoRoomForASpan) {
  RandomStream random(4, "denoising");
  const DenoisedText made = with_asked_spans(text_of(4), {.first_sentinel = kSentinel}, random);
  EXPECT_THAT(made.tokens, ElementsAre(1, 2, 3));
  EXPECT_THAT(made.targets, ElementsAre(-1, -1, 4));
  EXPECT_EQ(error_of([&] { with_asked_spans(text_of(9), {.rate = 1}, random); }).substr(0, 35),
            "spans have a mean length of at leas");
}

}  // namespace
}  // namespace gatewright
