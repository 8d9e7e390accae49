#include "gatewright/evaluate/drafter.h"

#include <gmock/gmock.h>

#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::vector<int32_t> kRepeating = {3, 1, 4, 1, 5, 9, 3, 1, 4};

TEST(LookupDrafter, ProposesWhatFollowedTheLongestRunBefore) {
  LookupDrafter lookup(3);
  EXPECT_THAT(lookup.draft(kRepeating, 4), ElementsAre(1, 5, 9, 3)) << "after 3 1 4";
  EXPECT_THAT(lookup.draft(kRepeating, 2), ElementsAre(1, 5));
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{7, 8, 5, 8, 6, 8}, 3), ElementsAre(6, 8))
      << "the last of equals";
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{2, 8, 5, 7, 8, 6, 2, 8}, 1), ElementsAre(5))
      << "the longer run";
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{5, 5, 5, 5}, 9), ElementsAre(5)) << "runs may overlap";
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{1, 2, 3}, 4), IsEmpty());
  EXPECT_THAT(lookup.draft(kRepeating, 0), IsEmpty());
  EXPECT_THAT(lookup.draft({}, 4), IsEmpty());
  EXPECT_EQ(error_of([] { LookupDrafter(0); }), "a lookup compares at least one token, got 0");
}

/// Proposes the same tokens whatever the text.
class Stubborn final : public Drafter {
 public:
  explicit Stubborn(std::vector<int32_t> tokens) : tokens_(std::move(tokens)) {}
  std::vector<int32_t> draft(std::span<const int32_t>, int64_t most) override {
    std::vector<int32_t> some = tokens_;
    some.resize(std::min(some.size(), static_cast<size_t>(most)));
    return some;
  }

 private:
  std::vector<int32_t> tokens_;
};

TEST(Drafting, LeavesTheTextAsItIsWhoeverDrafts) {
  Decoder model(tiny_spec(), 1), other(tiny_spec(), 2);
  LookupDrafter lookup;
  ModelDrafter itself(model), stranger(other);
  Stubborn stubborn({1, 2, 3, 4, 5, 6, 7});
  for (const double temperature : {0.0, 0.7, 2.0}) {
    GenerateOptions options{.max_tokens = 40, .sampling = {.temperature = temperature}, .seed = 5};
    const std::vector<int32_t> alone = generate(model, kRepeating, options);
    for (Drafter* drafter : std::initializer_list<Drafter*>{&lookup, &itself, &stranger, &stubborn}) {
      options.drafter = drafter;
      for (const int64_t most : {1, 3, 8}) {
        options.draft_tokens = most;
        EXPECT_EQ(generate(model, kRepeating, options), alone) << temperature << " " << most;
      }
    }
  }
}

TEST(Drafting, NeedsFewerPassesWhenItIsRight) {
  Decoder model(tiny_spec(), 1);
  ModelDrafter itself(model);
  int64_t passes = 0, accepted = 0, drafted = 0;
  GenerateOptions options{
      .max_tokens = 40, .sampling = {.temperature = 0}, .drafter = &itself, .draft_tokens = 7};
  options.checked = [&](const CheckedDraft& pass) {
    ++passes;
    drafted += pass.drafted;
    accepted += pass.accepted;
    EXPECT_GE(pass.experts_in_use, 2);
    EXPECT_LE(pass.experts_in_use, 4);
  };
  EXPECT_EQ(generate(model, kRepeating, options).size(), 40u);
  EXPECT_EQ(passes, 5) << "eight tokens each";
  EXPECT_EQ(accepted, drafted);
}

TEST(Drafting, EndsInsideADraftWhereItWouldEndWithoutOne) {
  Decoder model(tiny_spec(), 1);
  ModelDrafter itself(model);
  GenerateOptions options{.max_tokens = 20, .sampling = {.temperature = 0}};
  const std::vector<int32_t> alone = generate(model, kRepeating, options);
  options.drafter = &itself;
  options.stop = {alone[5]};
  const auto first = std::ranges::find(alone, alone[5]);
  EXPECT_EQ(generate(model, kRepeating, options), std::vector<int32_t>(alone.begin(), first));
  options.stop = {};
  std::vector<int32_t> seen;
  generate(model, kRepeating, options, [&](int32_t token) {
    seen.push_back(token);
    return seen.size() < 3;
  });
  EXPECT_EQ(seen, std::vector<int32_t>(alone.begin(), alone.begin() + 3));
}

TEST(Drafting, IsRefusedWhereRoutersChooseByBatch) {
  DecoderSpec spec = tiny_spec();
  for (FeedForwardSpec& layer : spec.layers)
    layer.router.selector = make_piece(choice::selectors(), "expert_choice");
  Decoder model(spec, 1);
  LookupDrafter lookup;
  EXPECT_THAT(error_of([&] { generate(model, kRepeating, {.drafter = &lookup}); }),
              HasSubstr("the whole batch"));
}

TEST(CachedDecoder, GivesTheLogitsOfSeveralLastTokens) {
  Decoder model(tiny_spec(), 1);
  CachedDecoder cached(model);
  const std::vector<int64_t> ids(kRepeating.begin(), kRepeating.end());
  const Tensor whole = logits_of(model, {.tokens = at::tensor(ids).unsqueeze(0)})[0];
  for (const int64_t count : {1, 4, 9, 2}) {
    const std::span<const float> rows = cached.logits_of_last(kRepeating, count);
    const Tensor wanted = whole.slice(0, 9 - count).contiguous();
    ASSERT_EQ(static_cast<int64_t>(rows.size()), wanted.numel());
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(rows[i], wanted.data_ptr<float>()[i], 1e-4) << count;
  }
  EXPECT_THAT(error_of([&] { cached.logits_of_last(kRepeating, 10); }), HasSubstr("no last 10"));
}

}  // namespace
}  // namespace gatewright
