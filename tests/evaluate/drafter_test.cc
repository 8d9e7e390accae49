#include "gatewright/evaluate/drafter.h"

#include <gmock/gmock.h>

#include "tests/models/tiny_models.h"
#include "tests/random_tensors.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::vector<int32_t> kRepeating = {3, 1, 4, 1, 5, 9, 3, 1, 4};

TEST(LookupDrafter, ProposesWhatFollowedTheLongestRunBefore) {
  LookupDrafter lookup(3);
  EXPECT_THAT(lookup.draft(kRepeating, 4).tokens, ElementsAre(1, 5, 9, 3)) << "after 3 1 4";
  EXPECT_THAT(lookup.draft(kRepeating, 2).tokens, ElementsAre(1, 5));
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{7, 8, 5, 8, 6, 8}, 3).tokens, ElementsAre(6, 8))
      << "the last of equals";
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{2, 8, 5, 7, 8, 6, 2, 8}, 1).tokens, ElementsAre(5))
      << "the longer run";
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{5, 5, 5, 5}, 9).tokens, ElementsAre(5)) << "runs may overlap";
  EXPECT_THAT(lookup.draft(std::vector<int32_t>{1, 2, 3}, 4).tokens, IsEmpty());
  EXPECT_THAT(lookup.draft(kRepeating, 0).tokens, IsEmpty());
  EXPECT_THAT(lookup.draft({}, 4).tokens, IsEmpty());
  EXPECT_EQ(error_of([] { LookupDrafter(0); }), "a lookup compares at least one token, got 0");
}

TEST(LookupDrafter, MakesATreeOfWhatFollowedSeveralPlaces) {
  LookupDrafter lookup(3, 2);
  // 8 8 stood before 1 2 3 and, later, before 1 5 6.
  const DraftTree tree = lookup.draft(std::vector<int32_t>{8, 8, 1, 2, 3, 8, 8, 1, 5, 6, 7, 8, 8}, 6);
  EXPECT_THAT(tree.tokens, ElementsAre(1, 5, 6, 2, 3, 8)) << "the last place first, half of the tokens each";
  EXPECT_THAT(tree.parents, ElementsAre(-1, 0, 1, 0, 3, 4));
  EXPECT_FALSE(tree.is_chain());
  EXPECT_TRUE(LookupDrafter(3).draft(kRepeating, 4).is_chain());
  EXPECT_EQ(lookup.draft(kRepeating, 5).size(), 5);
}

TEST(ModelDrafter, DraftsTheMostLikelyPaths) {
  Decoder model(tiny_spec(), 3);
  const std::vector<int32_t> text = {3, 1, 4};
  constexpr int64_t kBranches = 3, kDepth = 3, kMost = 9;
  const DraftTree tree = ModelDrafter(model, {.branches = kBranches, .depth = kDepth}).draft(text, kMost);
  ASSERT_EQ(tree.size(), kMost);
  // Every path by itself, without a cache: levels of children of the three best, then the nine best of all.
  struct Path {
    std::vector<int32_t> tokens;
    double value;
  };
  std::vector<Path> going_on = {{{}, 0}}, all;
  for (int64_t level = 0; level < kDepth; ++level) {
    std::vector<Path> proposed;
    for (const Path& path : going_on) {
      std::vector<int64_t> ids(text.begin(), text.end());
      ids.insert(ids.end(), path.tokens.begin(), path.tokens.end());
      const Tensor logits = logits_of(model, {.tokens = at::tensor(ids).unsqueeze(0)})[0][-1];
      const auto [value, token] = at::log_softmax(logits.to(at::kDouble), -1).topk(kBranches);
      for (int64_t i = 0; i < kBranches; ++i) {
        std::vector<int32_t> longer = path.tokens;
        longer.push_back(static_cast<int32_t>(token[i].item<int64_t>()));
        proposed.push_back({longer, path.value + value[i].item<double>()});
      }
    }
    all.insert(all.end(), proposed.begin(), proposed.end());
    std::ranges::stable_sort(proposed, std::greater(), &Path::value);
    proposed.resize(kBranches);
    going_on = proposed;
  }
  std::ranges::stable_sort(all, std::greater(), &Path::value);
  std::vector<std::vector<int32_t>> wanted, drafted;
  for (int64_t i = 0; i < kMost; ++i) wanted.push_back(all[static_cast<size_t>(i)].tokens);
  for (int64_t i = 0; i < tree.size(); ++i) {
    std::vector<int32_t> path;
    for (int64_t n = i; n >= 0; n = tree.parents[static_cast<size_t>(n)])
      path.insert(path.begin(), tree.tokens[static_cast<size_t>(n)]);
    drafted.push_back(path);
  }
  EXPECT_THAT(drafted, testing::UnorderedElementsAreArray(wanted));
  EXPECT_THAT(error_of([&] { ModelDrafter(model, {.branches = 16, .depth = 5}); }),
              HasSubstr("must be below 64"));
}

/// Proposes the same tokens whatever the text.
class Stubborn final : public Drafter {
 public:
  explicit Stubborn(DraftTree tree) : tree_(std::move(tree)) {}
  DraftTree draft(std::span<const int32_t>, int64_t most) override {
    DraftTree some = tree_;
    some.tokens.resize(std::min(some.tokens.size(), static_cast<size_t>(most)));
    some.parents.resize(some.tokens.size());
    return some;
  }

 private:
  DraftTree tree_;
};

TEST(Drafting, LeavesTheTextAsItIsWhoeverDrafts) {
  Decoder model(tiny_spec(), 1), other(tiny_spec(), 2);
  LookupDrafter lookup, lookups(4, 3);
  ModelDrafter itself(model), stranger(other);
  ModelDrafter tree(model, {.branches = 3, .depth = 4}), strange_tree(other, {.branches = 4, .depth = 2});
  Stubborn stubborn({.tokens = {1, 2, 3, 4, 5, 6, 7}, .parents = {-1, 0, 1, 2, 3, 4, 5}});
  Stubborn bush({.tokens = {1, 2, 3, 4, 5, 6, 7}, .parents = {-1, -1, 0, 1, 0, 2, -1}});
  for (const double temperature : {0.0, 0.7, 2.0}) {
    GenerateOptions options{.max_tokens = 40, .sampling = {.temperature = temperature}, .seed = 5};
    const std::vector<int32_t> alone = generate(model, kRepeating, options);
    for (Drafter* drafter : std::initializer_list<Drafter*>{&lookup, &lookups, &itself, &stranger, &tree,
                                                            &strange_tree, &stubborn, &bush}) {
      options.drafter = drafter;
      for (const int64_t most : {1, 3, 8, 32}) {
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

TEST(Drafting, AcceptsMoreOfATreeThanOfAChain) {
  Decoder model(tiny_spec(), 1), other(tiny_spec(), 1);
  const at::NoGradGuard no_grad;
  RandomStream random(4, "noise");
  for (const NamedTensor& p : other.parameters()) p.tensor.add_(normals(p.tensor.sizes(), random) * 0.1);
  const auto accepted_of = [&](const DraftBranches& branches) {
    ModelDrafter similar(other, branches);
    int64_t passes = 0, accepted = 0;
    GenerateOptions options{
        .max_tokens = 60, .sampling = {.temperature = 0}, .drafter = &similar, .draft_tokens = 24};
    options.checked = [&](const CheckedDraft& pass) {
      ++passes;
      accepted += pass.accepted;
      EXPECT_LE(pass.drafted, 24);
    };
    generate(model, kRepeating, options);
    EXPECT_EQ(passes + accepted, 60);
    return accepted;
  };
  const int64_t narrow = accepted_of({.branches = 2, .depth = 3}),
                wide = accepted_of({.branches = 8, .depth = 3});
  EXPECT_GT(narrow, 0);
  EXPECT_GT(wide, narrow);
}

TEST(CachedDecoder, GivesTheLogitsAfterEachTokenOfADraft) {
  for (const int64_t window : {0, 3}) {
    DecoderSpec spec = tiny_spec();
    spec.sliding_window = window;
    Decoder model(spec, 1);
    CachedDecoder cached(model);
    const auto alone = [&](std::vector<int32_t> text) {
      const std::vector<int64_t> ids(text.begin(), text.end());
      return logits_of(model, {.tokens = at::tensor(ids).unsqueeze(0)})[0][-1];
    };
    // A chain, trees with few and with many tokens, each after what the one before left in the cache.
    DraftTree chain, bush, forest;
    for (int32_t i = 0; i < 5; ++i) chain.add(i - 1, i + 1);
    for (const int32_t token : {7, 8, 9}) bush.add(bush.add(-1, token), token + 1);
    for (int32_t i = 0; i < 30; ++i) forest.add(i % 4 == 0 ? -1 : i - 1 - i % 2, i);
    for (const DraftTree* draft : {&chain, &bush, &forest, &bush}) {
      const std::span<const float> rows = cached.logits_with(kRepeating, *draft);
      const size_t vocabulary = rows.size() / (draft->tokens.size() + 1);
      for (int64_t node = -1; node < draft->size(); ++node) {
        std::vector<int32_t> path;
        for (int64_t n = node; n >= 0; n = draft->parents[static_cast<size_t>(n)])
          path.insert(path.begin(), draft->tokens[static_cast<size_t>(n)]);
        std::vector<int32_t> text = kRepeating;
        text.insert(text.end(), path.begin(), path.end());
        const Tensor wanted = alone(text);
        for (size_t v = 0; v < vocabulary; ++v)
          ASSERT_NEAR(rows[static_cast<size_t>(node + 1) * vocabulary + v], wanted.data_ptr<float>()[v], 1e-4)
              << "node " << node << " window " << window;
      }
    }
    // What is kept is part of the text: the second branch of the bush, which lies behind the first in the
    // cache.
    cached.logits_with(kRepeating, bush);
    cached.keep(std::vector<int64_t>{2, 3});
    std::vector<int32_t> text = kRepeating;
    text.insert(text.end(), {bush.tokens[2], bush.tokens[3], 5});
    const std::span<const float> after = cached.logits_after(text);
    const Tensor wanted = alone(text);
    for (size_t v = 0; v < after.size(); ++v) ASSERT_NEAR(after[v], wanted.data_ptr<float>()[v], 1e-4);
  }
}

TEST(CachedDecoder, RefusesTreesThatAreTooLarge) {
  Decoder model(tiny_spec(), 1);
  CachedDecoder cached(model);
  DraftTree wide;
  for (int32_t i = 0; i < 64; ++i) wide.add(-1, i);
  EXPECT_THAT(error_of([&] { cached.logits_with(kRepeating, wide); }),
              HasSubstr("a tree of 65 tokens is too large"));
  EXPECT_THAT(error_of([&] { cached.logits_with({}, {}); }), HasSubstr("no tokens"));
}

}  // namespace
}  // namespace gatewright
