// What training promises, for the routers of papers: accumulated micro-batches are one large batch, and a
// training that stops goes on bit for bit.
#include <gtest/gtest.h>

#include "gatewright/models/checkpoint.h"
#include "tests/train/small_training.h"

namespace gatewright {
namespace {

/// The small recipe with two layers and a router by name, each as settings.
std::vector<std::vector<std::string>> published_routers() {
  std::vector<std::vector<std::string>> all = {
      {"routing.scorer=recurrent", "routing.recurrent_size=8", "routing.init=0.5",
       "balance.pooled_switch.weight=0.01"},
      {"routing.residual_logits.alpha=0.5"},
      {"routing.scorer=mixture", "routing.init=0.5", "experts.bank=lora", "experts.rank=2"},
      {"routing.scorer=mixture", "experts.bank=lora", "experts.rank=2",
       R"(experts.adapted=["gate","q","v","o"])"},
      {"routing.scorer=fixed_linear", "routing.selector=scheduled_top_k", "experts.bank=relu"},
      {"routing.scorer=uniform", "routing.selector=stochastic", "routing.weights=equal",
       "train.objective=consistency"},
      {"routing.rounds=2", "routing.top_k=1", "balance.switch.scope=sequence",
       "balance.switch.fraction=choices", "experts.shared.width=8"},
      {"routing.rounds=3", "routing.residual=inner_stream", "routing.independent_gating=false",
       "balance.loss_free_bias.rate=0.01"},
      {"model.attention=selective", "model.qk_norm=head", "attention.gate_gradient=straight_through",
       "experts.bank=mlp_union", "experts.width=32", "routing.weights=one",
       "routing.gate_gradient=straight_through", "routing.scorer=linear", "routing.bias=true"}};
  for (auto& settings : all) {
    settings.push_back("model.num_layers=2");
    settings.push_back("train.warmup_steps=0");
  }
  return all;
}

TEST(PublishedRouters, AccumulatedBatchesAreOneLargeBatch) {
  for (std::vector<std::string> settings : published_routers()) {
    // Loads are counted for each micro-batch, so balance terms differ; everything else does not.
    settings.insert(settings.end(), {"balance.switch.weight=0", "train.epsilon=1e-4"});
    if (settings[0] == "routing.scorer=recurrent") settings.push_back("balance.pooled_switch.weight=0");
    // And dropout draws in the order of the micro-batches.
    if (settings[0] == "routing.scorer=mixture") settings.push_back("experts.dropout=0");
    if (settings[1] == "routing.selector=stochastic") settings.push_back("experts.num_experts=1");
    auto large = settings, small = settings;
    large.insert(large.end(), {"train.batch_size=6", "train.accumulate=1"});
    small.insert(small.end(), {"train.batch_size=2", "train.accumulate=3"});
    Setting one(large), three(small);
    for (int64_t i = 0; i < 3; ++i) {
      const StepResult a = one.trainer.step(), b = three.trainer.step();
      EXPECT_NEAR(a.loss, b.loss, 1e-4 * a.loss) << settings[0] << " step " << i;
      EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-3 * a.gradient_norm) << settings[0] << " step " << i;
    }
  }
}

TEST(PublishedRouters, GoOnBitForBit) {
  for (const std::vector<std::string>& settings : published_routers()) {
    TemporaryFolder folder;
    Setting whole(settings), resumed(settings);
    for (int64_t i = 0; i < 4; ++i) whole.trainer.step();
    write_weights(folder / "weights", whole.parameters());
    write_weights(folder / "moments", whole.trainer.state());
    const Json progress = Json::parse(whole.trainer.progress().dump());
    read_weights(folder / "weights", resumed.parameters());
    read_weights(folder / "moments", resumed.trainer.state());
    resumed.trainer.restore(resumed.trainer.state(), progress, "the checkpoint");
    for (int64_t i = 0; i < 4; ++i)
      EXPECT_EQ(whole.trainer.step().loss, resumed.trainer.step().loss) << settings[0] << " step " << i;
    const ParameterList a = whole.parameters(), b = resumed.parameters();
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i].tensor, b[i].tensor)) << a[i].name;
  }
}

}  // namespace
}  // namespace gatewright
