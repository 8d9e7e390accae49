#include "gatewright/models/decoder.h"

#include <gmock/gmock.h>

#include "gatewright/layers/cross_entropy.h"
#include "tests/models/tiny_models.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

constexpr int64_t kVocabulary = 40;

/// The largest difference of two tensors.
std::vector<KeyValueCache> empty_cache(const Decoder& model) {
  return std::vector<KeyValueCache>(static_cast<size_t>(model.spec().num_layers()));
}

/// Models of every kind whose logits depend on one row alone.
std::vector<DecoderSpec> various_specs() {
  std::vector<DecoderSpec> specs = {tiny_spec(), tiny_dense_spec(), tiny_spec()};
  specs[1].query_key_norm = QueryKeyNorm::kHead;
  specs[1].num_kv_heads = 4;
  specs[2].query_key_norm = QueryKeyNorm::kNone;
  specs[2].tie_word_embeddings = true;
  specs[2].sliding_window = 4;
  specs[2].layers[0] = {.routed = false, .dense_width = 24};
  return specs;
}

TEST(Decoder, GivesHiddenStatesLogitsAndOneRecordARoutedLayer) {
  DecoderSpec spec = tiny_spec(3);
  spec.layers[1] = {.routed = false, .dense_width = 24};
  Decoder model(spec, 1);
  const Batch batch{.tokens = random_tokens(2, 5, kVocabulary, 1)};
  const DecoderOutput output = model.forward(batch);
  EXPECT_EQ(output.hidden.sizes(), (std::vector<int64_t>{2, 5, 32}));
  EXPECT_EQ(model.logits(output.hidden).sizes(), (std::vector<int64_t>{2, 5, kVocabulary}));
  ASSERT_EQ(output.routing.size(), 2u);
  EXPECT_EQ(output.routing[0].layer, 0);
  EXPECT_EQ(output.routing[1].layer, 2);
  EXPECT_EQ(output.routing[1].assignment.num_tokens, 10);
  EXPECT_EQ(output.routing[1].assignment.token.numel(), 20) << "two experts a token";
  EXPECT_FALSE(output.balance_loss.defined());
}

TEST(Decoder, ALaterTokenNeverChangesEarlierLogits) {
  for (const DecoderSpec& spec : various_specs()) {
    Decoder model(spec, 2);
    const Tensor tokens = random_tokens(1, 12, kVocabulary, 3);
    const Tensor before = logits_of(model, {.tokens = tokens});
    for (int64_t changed : {11, 6, 1}) {
      Tensor other = tokens.clone();
      other[0][changed] = (other[0][changed] + 1) % kVocabulary;
      const Tensor after = logits_of(model, {.tokens = other});
      EXPECT_LT(distance(after.slice(1, 0, changed), before.slice(1, 0, changed)), 1e-5);
      EXPECT_GT(distance(after.select(1, changed), before.select(1, changed)), 1e-3);
    }
  }
}

TEST(Decoder, GenerationWithACacheEqualsTheWholeForward) {
  for (const DecoderSpec& spec : various_specs()) {
    Decoder model(spec, 3);
    const Tensor tokens = random_tokens(2, 300, kVocabulary, 4);  // beyond the first rotary table
    const Tensor whole = logits_of(model, {.tokens = tokens});
    for (const std::vector<int64_t>& pieces : {std::vector<int64_t>{300}, {1, 299}, {7, 250, 40, 3}}) {
      auto cache = empty_cache(model);
      int64_t begin = 0;
      for (const int64_t size : pieces) {
        const Batch batch{.tokens = tokens.slice(1, begin, begin + size)};
        const Tensor part = logits_of(model, batch, {.cache = &cache});
        EXPECT_LT(distance(part, whole.slice(1, begin, begin + size)), 2e-4) << "from " << begin;
        begin += size;
      }
      EXPECT_EQ(cache[0].length, 300);
    }
  }
}

TEST(Decoder, TokenByTokenEqualsTheWholeForward) {
  for (const DecoderSpec& spec : various_specs()) {
    Decoder model(spec, 3);
    const Tensor tokens = random_tokens(1, 20, kVocabulary, 5);
    const Tensor whole = logits_of(model, {.tokens = tokens});
    auto cache = empty_cache(model);
    for (int64_t i = 0; i < 20; ++i) {
      const Tensor one = logits_of(model, {.tokens = tokens.slice(1, i, i + 1)}, {.cache = &cache});
      EXPECT_LT(distance(one.select(1, 0), whole.select(1, i)), 1e-4) << "token " << i;
    }
  }
}

TEST(Decoder, DocumentsInOneRowAreAsIfEachStoodAlone) {
  for (const DecoderSpec& spec : various_specs()) {
    Decoder model(spec, 4);
    const Tensor tokens = random_tokens(1, 15, kVocabulary, 6);
    const std::vector<int64_t> begins = {0, 1, 6, 15};
    Tensor first = at::zeros({1, 15}, at::kInt);
    for (size_t d = 0; d + 1 < begins.size(); ++d)
      first.slice(1, begins[d], begins[d + 1]).fill_(static_cast<int>(begins[d]));
    const Tensor together = logits_of(model, {.tokens = tokens, .first_key = first});
    for (size_t d = 0; d + 1 < begins.size(); ++d) {
      const Tensor alone = logits_of(model, {.tokens = tokens.slice(1, begins[d], begins[d + 1])});
      EXPECT_LT(distance(together.slice(1, begins[d], begins[d + 1]), alone), 1e-4) << "document " << d;
    }
    EXPECT_GT(distance(together, logits_of(model, {.tokens = tokens})), 1e-3);
  }
}

TEST(Decoder, RowsOfABatchDoNotSeeEachOther) {
  Decoder model(tiny_spec(), 4);
  const Tensor tokens = random_tokens(3, 8, kVocabulary, 7);
  const Tensor all = logits_of(model, {.tokens = tokens});
  for (int64_t row = 0; row < 3; ++row) {
    const Tensor alone = logits_of(model, {.tokens = tokens.slice(0, row, row + 1)});
    EXPECT_LT(distance(all.slice(0, row, row + 1), alone), 1e-5);
  }
}

TEST(Decoder, ASlidingWindowForgetsTokensThatNoLayerReaches) {
  DecoderSpec spec = tiny_dense_spec(2);
  spec.sliding_window = 3;
  Decoder model(spec, 5);
  const Tensor tokens = random_tokens(1, 12, kVocabulary, 8);
  Tensor other = tokens.clone();
  other[0][2] = (other[0][2] + 1) % kVocabulary;
  const Tensor a = logits_of(model, {.tokens = tokens}), b = logits_of(model, {.tokens = other});
  // Two layers that each look two tokens back: token 2 reaches tokens 2 to 6.
  EXPECT_LT(distance(a.slice(1, 7), b.slice(1, 7)), 1e-6);
  for (int64_t i = 2; i <= 6; ++i) EXPECT_GT(distance(a.select(1, i), b.select(1, i)), 1e-6) << i;
  spec.sliding_window = 0;
  Decoder all(spec, 5);
  EXPECT_GT(
      distance(logits_of(all, {.tokens = tokens}).slice(1, 7), logits_of(all, {.tokens = other}).slice(1, 7)),
      1e-4);
}

TEST(Decoder, AWindowAsLongAsTheTextChangesNothing) {
  DecoderSpec spec = tiny_dense_spec(2);
  Decoder all(spec, 5);
  spec.sliding_window = 12;
  Decoder window(spec, 5);
  const Batch batch{.tokens = random_tokens(1, 12, kVocabulary, 8)};
  EXPECT_LT(distance(logits_of(all, batch), logits_of(window, batch)), 1e-6);
}

TEST(Decoder, TiedEmbeddingsAreTheHead) {
  DecoderSpec spec = tiny_spec();
  spec.tie_word_embeddings = true;
  Decoder model(spec, 6);
  EXPECT_EQ(model.parameters().front().name, "model.embed_tokens.weight");
  EXPECT_TRUE(model.head().is_same(model.parameters().front().tensor));
  for (const NamedTensor& p : model.parameters()) EXPECT_NE(p.name, "lm_head.weight");
  const Tensor hidden = at::randn({3, 32});
  const at::NoGradGuard no_grad;
  EXPECT_LT(distance(model.logits(hidden), hidden.matmul(model.parameters().front().tensor.t())), 1e-4);
  // The gradient of the one tensor is the sum of what both uses give.
  const at::AutoGradMode with_grad(true);
  const Batch batch{.tokens = random_tokens(1, 6, kVocabulary, 9)};
  model.logits(model.forward(batch).hidden).square().sum().backward();
  const Tensor both = model.head().grad().clone();
  Decoder again(spec, 6);
  again.logits(again.forward(batch).hidden.detach()).square().sum().backward();
  EXPECT_GT(distance(both, again.head().grad()), 1e-3);
}

/// Loss and gradients of every parameter by name.
std::map<std::string, Tensor> gradients_of(Decoder& model, const Batch& batch) {
  const DecoderOutput output = model.forward(batch, {.training = true});
  const Tensor loss = linear_cross_entropy(output.hidden.reshape({-1, model.spec().hidden_size}),
                                           model.head(), batch.targets.reshape({-1}));
  (output.balance_loss.defined() ? loss + output.balance_loss : loss).backward();
  std::map<std::string, Tensor> result = {{"loss", loss.detach()}};
  for (const NamedTensor& p : model.parameters())
    if (p.trainable) result[p.name] = p.tensor.grad();
  return result;
}

TEST(Decoder, RecomputedActivationsGiveTheSameGradients) {
  const Batch batch{.tokens = random_tokens(2, 9, kVocabulary, 10),
                    .targets = random_tokens(2, 9, kVocabulary, 11)};
  DecoderSpec spec = tiny_spec();
  Decoder plain(spec, 7);
  for (FeedForwardSpec& layer : spec.layers)
    layer.experts = make_piece(expert_banks(), "swiglu", {{"width", int64_t{24}}, {"recompute", true}});
  Decoder recomputed(spec, 7);
  const auto a = gradients_of(plain, batch), b = gradients_of(recomputed, batch);
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, gradient] : a) {
    ASSERT_TRUE(gradient.defined()) << name;
    EXPECT_LT(distance(gradient, b.at(name)), 1e-6) << name;
  }
}

/// The slope of the loss along each parameter's gradient is the gradient's length: by finite differences.
TEST(Decoder, GradientsAreTheSlopesOfTheLoss) {
  DecoderSpec spec = tiny_spec();
  // All experts of every token: no choice that a small step could flip.
  for (FeedForwardSpec& layer : spec.layers) layer.router.selector = make_piece(choice::selectors(), "all");
  spec.layers[1].router.balance = {make_piece(balance_terms(), "z_loss", {{"weight", 0.1}})};
  Decoder model(spec, 8);
  const Batch batch{.tokens = random_tokens(2, 6, kVocabulary, 12),
                    .targets = random_tokens(2, 6, kVocabulary, 13)};
  const auto loss = [&] {
    const at::NoGradGuard no_grad;
    const DecoderOutput output = model.forward(batch, {.training = true});
    return linear_cross_entropy(output.hidden.reshape({-1, 32}), model.head(), batch.targets.reshape({-1}))
               .item<double>() +
           output.balance_loss.item<double>();
  };
  const auto gradients = gradients_of(model, batch);
  for (const NamedTensor& p : model.parameters()) {
    const double length = gradients.at(p.name).norm().item<double>();
    ASSERT_GT(length, 0) << p.name;
    const Tensor direction = gradients.at(p.name) / length;
    constexpr double kStep = 1e-2;
    const at::NoGradGuard no_grad;
    const Tensor before = p.tensor.detach().clone();
    p.tensor.add_(direction, kStep);
    const double high = loss();
    p.tensor.copy_(before).sub_(direction, kStep);
    const double low = loss();
    p.tensor.copy_(before);
    // A float32 loss of about 4 is known to some 5e-7.
    EXPECT_NEAR((high - low) / (2 * kStep), length, 0.02 * length + 1e-4) << p.name;
  }
}

TEST(Decoder, InitialWeightsComeFromTheSeedAlone) {
  const Decoder a(tiny_spec(), 1), b(tiny_spec(), 1), c(tiny_spec(), 2);
  const ParameterList of_a = a.parameters(), of_b = b.parameters(), of_c = c.parameters();
  for (size_t i = 0; i < of_a.size(); ++i) {
    EXPECT_TRUE(at::equal(of_a[i].tensor, of_b[i].tensor)) << of_a[i].name;
    if (of_a[i].tensor.dim() == 1) continue;  // norms begin with ones
    EXPECT_FALSE(at::equal(of_a[i].tensor, of_c[i].tensor)) << of_a[i].name;
  }
  // A layer more changes no weight of those before it.
  const ParameterList longer = Decoder(tiny_spec(3), 1).parameters();
  for (size_t i = 0; i + 2 < of_a.size(); ++i) EXPECT_TRUE(at::equal(longer[i].tensor, of_a[i].tensor));
}

TEST(Decoder, OneTokenAndNoTokensAreFine) {
  for (const DecoderSpec& spec : various_specs()) {
    Decoder model(spec, 9);
    EXPECT_EQ(logits_of(model, {.tokens = random_tokens(1, 1, kVocabulary, 1)}).numel(), kVocabulary);
    EXPECT_EQ(logits_of(model, {.tokens = at::empty({1, 0}, at::kLong)}).numel(), 0);
    EXPECT_EQ(logits_of(model, {.tokens = at::empty({0, 4}, at::kLong)}).numel(), 0);
  }
}

TEST(Decoder, RefusesTokensItHasNoEmbeddingFor) {
  Decoder model(tiny_spec(), 9);
  for (const int64_t wrong : {int64_t{40}, int64_t{-1}, int64_t{1} << 40}) {
    const Tensor tokens = at::full({1, 3}, wrong, at::kLong);
    EXPECT_THAT(error_of([&] { model.forward({.tokens = tokens}); }), HasSubstr("token")) << wrong;
  }
  EXPECT_THAT(error_of([&] { model.forward({.tokens = at::zeros({3}, at::kLong)}); }), HasSubstr("[B, S]"));
  EXPECT_THAT(error_of([&] { model.forward({.tokens = at::zeros({1, 3}, at::kInt)}); }), HasSubstr("int64"));
}

TEST(Decoder, RoutingDrawsGoOnFromTheirSavedState) {
  DecoderSpec spec = tiny_spec();
  for (FeedForwardSpec& layer : spec.layers)
    layer.router.decorators = {make_piece(scorer_decorators(), "noise")};
  Decoder model(spec, 10);
  const Batch batch{.tokens = random_tokens(2, 6, kVocabulary, 14)};
  const auto train = [&] {
    const at::NoGradGuard no_grad;
    return model.forward(batch, {.training = true}).hidden;
  };
  const Tensor first = train();
  const auto state = model.random_state();
  const Tensor second = train();
  EXPECT_FALSE(at::equal(first, second)) << "noise is drawn anew";
  model.set_random_state(state);
  EXPECT_TRUE(at::equal(train(), second));
  EXPECT_TRUE(at::equal(logits_of(model, batch), logits_of(model, batch))) << "none outside of training";
  EXPECT_THAT(error_of([&] { model.set_random_state({1}); }), HasSubstr("1 layers, the model has 2"));
}

TEST(Decoder, TheFirstLayersRouteTheSameWhenTheOthersAreNotComputed) {
  Decoder model(tiny_spec(), 1);
  const at::NoGradGuard no_grad;
  const Batch batch{.tokens = at::tensor(std::vector<int64_t>{3, 1, 4, 1, 5}).unsqueeze(0)};
  const DecoderOutput all = model.forward(batch), first = model.forward(batch, {.layers = 1});
  ASSERT_GT(all.routing.size(), 1u);
  ASSERT_EQ(first.routing.size(), 1u);
  EXPECT_TRUE(at::equal(first.routing[0].assignment.weight, all.routing[0].assignment.weight));
  EXPECT_TRUE(at::equal(first.routing[0].assignment.token, all.routing[0].assignment.token));
  EXPECT_EQ(model.forward(batch, {.layers = 0}).routing.size(), 0u);
  EXPECT_EQ(model.forward(batch, {.layers = 100}).routing.size(), all.routing.size());
}

}  // namespace
}  // namespace gatewright
