#include "gatewright/evaluate/generate.h"

#include <gmock/gmock.h>

#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5};

TEST(Generate, WithoutTemperatureTakesTheMostLikelyTokenOfTheWholeForward) {
  Decoder model(tiny_spec(), 1);
  const auto tokens = generate(model, kPrompt, {.max_tokens = 12, .sampling = {.temperature = 0}});
  ASSERT_EQ(tokens.size(), 12u);
  std::vector<int64_t> text(kPrompt.begin(), kPrompt.end());
  for (const int32_t token : tokens) {
    const Tensor logits = logits_of(model, {.tokens = at::tensor(text).unsqueeze(0)})[0][-1];
    EXPECT_EQ(token, logits.argmax().item<int64_t>());
    text.push_back(token);
  }
  EXPECT_EQ(generate(model, kPrompt, {.max_tokens = 12, .sampling = {.temperature = 0}, .seed = 9}), tokens)
      << "no seed matters when nothing is drawn";
}

TEST(Generate, TheSeedDecidesTheDraws) {
  Decoder model(tiny_spec(), 1);
  const auto with = [&](uint64_t seed) {
    return generate(model, kPrompt, {.max_tokens = 30, .sampling = {.temperature = 2}, .seed = seed});
  };
  EXPECT_EQ(with(1), with(1));
  EXPECT_NE(with(1), with(2));
}

TEST(Generate, WritesOnlyIdsThatTheTokenizerHas) {
  Decoder model(tiny_spec(), 1);
  GenerateOptions options{.max_tokens = 60, .sampling = {.temperature = 3}, .seed = 2};
  EXPECT_GE(std::ranges::max(generate(model, kPrompt, options)), 10);
  options.num_ids = 10;
  EXPECT_LT(std::ranges::max(generate(model, kPrompt, options)), 10);
}

TEST(Generate, StopsBeforeTheEndOfTheText) {
  Decoder model(tiny_spec(), 1);
  const auto tokens = generate(model, kPrompt, {.max_tokens = 30, .sampling = {.temperature = 2}, .seed = 4});
  const int32_t stop = tokens[7];
  const auto stopped =
      generate(model, kPrompt, {.max_tokens = 30, .sampling = {.temperature = 2}, .seed = 4, .stop = {stop}});
  const auto end = std::find(tokens.begin(), tokens.end(), stop);
  EXPECT_EQ(stopped, std::vector<int32_t>(tokens.begin(), end));
}

TEST(Generate, ShowsEachTokenAndEndsWhenTold) {
  Decoder model(tiny_spec(), 1);
  std::vector<int32_t> seen;
  const auto tokens = generate(model, kPrompt, {.max_tokens = 30}, [&](int32_t token) {
    seen.push_back(token);
    return seen.size() < 4;
  });
  EXPECT_EQ(seen.size(), 4u);
  EXPECT_EQ(tokens, seen);
}

TEST(Generate, RefusesAnEmptyPromptAndWritesNothingWhenNothingIsAsked) {
  Decoder model(tiny_spec(), 1);
  EXPECT_THAT(error_of([&] { generate(model, {}, {}); }), HasSubstr("the prompt has no tokens"));
  EXPECT_THAT(generate(model, kPrompt, {.max_tokens = 0}), IsEmpty());
}

TEST(CachedDecoder, ComputesOnlyWhatIsNewAndGivesTheSameLogits) {
  Decoder model(tiny_spec(), 1);
  CachedDecoder cached(model);
  const std::vector<std::vector<int32_t>> texts = {
      {3, 1, 4}, {3, 1, 4, 1, 5}, {3, 1, 9, 2}, {3, 1}, {3, 1}, {7}, {7, 7, 7, 3, 1, 4, 1, 5, 9, 2, 6}};
  for (const std::vector<int32_t>& text : texts) {
    const std::span<const float> logits = cached.logits_after(text);
    const std::vector<int64_t> ids(text.begin(), text.end());
    const Tensor whole = logits_of(model, {.tokens = at::tensor(ids).unsqueeze(0)})[0][-1];
    ASSERT_EQ(logits.size(), static_cast<size_t>(whole.numel()));
    for (size_t i = 0; i < logits.size(); ++i)
      EXPECT_NEAR(logits[i], whole[static_cast<int64_t>(i)].item<float>(), 1e-4);
  }
}

TEST(CachedDecoder, ReadsALongTextInPiecesAndSaysHowFarItIs) {
  DecoderSpec spec = tiny_spec();
  spec.max_positions = 2 * CachedDecoder::kPiece + 100;
  Decoder model(spec, 1);
  std::vector<int32_t> text;
  for (int64_t t = 0; t < CachedDecoder::kPiece + 40; ++t) text.push_back(static_cast<int32_t>(t * t % 17));
  std::vector<std::pair<int64_t, int64_t>> steps;
  CachedDecoder cached(model);
  const std::span<const float> logits =
      cached.logits_after(text, [&](int64_t done, int64_t total) { steps.emplace_back(done, total); });
  const int64_t all = std::ssize(text);
  EXPECT_THAT(steps, ElementsAre(testing::Pair(CachedDecoder::kPiece, all), testing::Pair(all, all)));
  const std::vector<int64_t> ids(text.begin(), text.end());
  const Tensor whole = logits_of(model, {.tokens = at::tensor(ids).unsqueeze(0)})[0][-1];
  for (size_t i = 0; i < logits.size(); ++i)
    EXPECT_NEAR(logits[i], whole[static_cast<int64_t>(i)].item<float>(), 1e-4);
}

TEST(CachedDecoder, ContinuesAConversationAsIfItWereNew) {
  Decoder model(tiny_spec(), 1);
  CachedDecoder cached(model);
  std::vector<int32_t> text = kPrompt;
  for (uint64_t turn = 0; turn < 3; ++turn) {
    const GenerateOptions options{.max_tokens = 8, .sampling = {.temperature = 0}};
    const std::vector<int32_t> answer = generate(cached, text, options);
    EXPECT_EQ(answer, generate(model, text, options));
    text.insert(text.end(), answer.begin(), answer.end());
    text.push_back(2);
  }
}

}  // namespace
}  // namespace gatewright
