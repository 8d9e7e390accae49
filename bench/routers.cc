#include "bench/routers.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "bench/median.h"
#include "gatewright/experts/registry.h"
#include "gatewright/routing/choice/top_p_calibration.h"
#include "gatewright/routing/rounds.h"
#include "gatewright/routing/uncertainty.h"
#include "gatewright/train/recipe.h"

namespace gatewright::bench {
namespace {

constexpr int64_t kSequence = 256;       // tokens
constexpr double kBroadcastShare = 0.1;  // of the tokens of GW-MoE; the paper's thresholds give 5 to 20 %
constexpr const char* kPlain = "plain";

/// A system as the tables [routing] and [balance] of a recipe. {k}: experts a token, {half_k} in each of two
/// rounds; {init}: initial spread of learned routers, which gives logits of standard deviation 1; {top_p},
/// {threshold}: set on a plain router.
struct System {
  const char* slug;
  const char* tables;
};

constexpr System kSystems[] = {
    {kPlain, "[routing]\ntop_k = {k}\ninit = {init}\n[balance.switch]\nweight = 0.01\n"},
    {"rmoe",
     "[routing]\nscorer = \"recurrent\"\ninit = {init}\ntop_k = {k}\n[balance.pooled_switch]\nweight = "
     "0.01\n"},
    {"dynamic-moe",
     "[routing]\nselector = \"top_p\"\ntop_p = {top_p}\ninit = {init}\nweights = \"as_is\"\n"
     "[balance.switch]\nweight = 0.01\n[balance.entropy]\nweight = 0.0001\n"},
    {"gw-moe",
     "[routing]\ntop_k = {k}\ninit = {init}\nweights = \"renormalised\"\n[routing.broadcast]\n"
     "threshold = {threshold}\n[balance.switch]\nweight = 0.01\n"},
    {"mixture-of-routers",
     "[routing]\nscorer = \"mixture\"\ninit = {init}\ntop_k = {k}\n[balance.switch]\nweight = 0.01\n"},
    {"smoe-dropout",
     "[routing]\nscorer = \"fixed_linear\"\nselector = \"scheduled_top_k\"\nk_min = {k}\nk_max = {k}\n"
     "weights = \"softmax_chosen\"\n"},
    {"thor", "[routing]\nscorer = \"uniform\"\nselector = \"stochastic\"\nweights = \"equal\"\n"},
    {"blockffn",
     "[routing]\nselector = \"relu\"\nactivation = \"relu_rms\"\ninit = {init}\n"
     "[balance.activation_locality]\n[balance.chunk_sparsity]\nchunk = 64\n"},
    {"global-batch-lbl",
     "[routing]\ntop_k = {k}\ninit = {init}\nweights = \"renormalised\"\n[balance.global_batch]\n"
     "weight = 0.01\n"},
    {"openmoe",
     "[routing]\ntop_k = {k}\ninit = {init}\n[routing.ranked_capacity]\nfactor = 1.25\n"
     "[balance.switch]\nweight = 0.01\n[balance.z_loss]\nweight = 0.0001\n"},
    {"chain-of-experts",
     "[routing]\nrounds = 2\ntop_k = {half_k}\ninit = {init}\n[balance.switch]\nweight = 0.001\n"
     "scope = \"sequence\"\nfraction = \"choices\"\n"},
    {"union-of-experts",
     "[routing]\nbias = true\ninit = {init}\ntop_k = {k}\nweights = \"one\"\n"
     "gate_gradient = \"straight_through\"\n[balance.switch]\nweight = 0.01\n"},
};

struct Contestant {
  std::string slug;
  std::unique_ptr<SharedModules> network;
  RoundsSpec rounds;
  std::vector<std::unique_ptr<Router>> routers;  // one a round
  RandomStream random;
  double operations = 0;  // of one token's scores

  ParameterList parameters() const {
    ParameterList list;
    for (const auto& router : routers) router->collect(list, "router");
    network->collect(list, "network");
    return list;
  }
};

/// Products of the router's matrices with one token, forward.
double scorer_operations(const Contestant& c) {
  double count = 0;
  for (const NamedTensor& p : c.parameters())
    count += p.tensor.dim() >= 2 ? 2 * static_cast<double>(p.tensor.numel()) : 0;
  return count;
}

/// What depends on the distribution of a plain router at this shape.
struct Settings {
  double init = 0, top_p = 0, threshold = 0;
};

class Layer {
 public:
  explicit Layer(const MoeShape& shape) : shape_(shape), random_(1, "bench routers") {
    hidden_ = at::empty({shape.tokens, shape.hidden}, at::kFloat);
    direction_ = at::empty_like(hidden_);
    for (Tensor* t : {&hidden_, &direction_}) {
      float* values = t->data_ptr<float>();
      for (int64_t i = 0; i < t->numel(); ++i) values[i] = random_.normal();
    }
    hidden_.set_requires_grad(true);
    settings_.init = 1 / std::sqrt(static_cast<double>(shape.hidden));
    const Contestant plain = make(kSystems[0]);
    const at::NoGradGuard no_grad;
    const Tensor p = distribution(plain.routers.front()->route(hidden_, {}).scores);
    const auto* values = p.data_ptr<float>();
    settings_.top_p = choice::top_p_for({.values = {values, static_cast<size_t>(p.numel())},
                                         .num_tokens = shape.tokens,
                                         .num_experts = shape.experts},
                                        static_cast<double>(shape.top_k));
    settings_.threshold = threshold_for_share(uncertainty(p), kBroadcastShare);
    bank_ = make_expert_bank(spec(kSystems[0]).experts, {},
                             {.hidden_size = shape.hidden, .num_experts = shape.experts}, random_);
    bank_->collect(weights_, "experts");
  }

  Contestant make(const System& system) {
    Contestant c{.slug = system.slug,
                 .network = std::make_unique<SharedModules>(1),
                 .rounds = {},
                 .routers = {},
                 .random = RandomStream(1, system.slug)};
    const FeedForwardSpec layer = spec(system);
    c.rounds = layer.rounds;
    for (int64_t t = 0; t < c.rounds.rounds; ++t)
      c.routers.push_back(std::make_unique<Router>(
          layer.router,
          RouterSizes{
              .hidden_size = shape_.hidden, .num_experts = shape_.experts, .network = c.network.get()},
          random_));
    c.operations = scorer_operations(c);
    return c;
  }

  /// Seconds of the routing alone.
  double route(Contestant& c) {
    return timed(c, [&] {
      Roots roots;
      for (int64_t t = 0; t < c.rounds.rounds; ++t) {
        const RoutingRecord record = record_of(c, t, hidden_);
        roots.add(record.assignment.weight, at::ones_like(record.assignment.weight));
        roots.add(record.loss);
      }
      roots.backward();
    });
  }

  /// Seconds of routing and experts; pairs: of the choices.
  double compute(Contestant& c, int64_t& pairs) {
    return timed(c, [&] {
      Roots roots;
      pairs = 0;
      const RoundsOutput made = run_rounds(hidden_, hidden_, c.rounds, [&](int64_t t, const Tensor& x) {
        const RoutingRecord record = record_of(c, t, x);
        pairs += record.assignment.token.size(0);
        roots.add(record.loss);
        return bank_->forward(x, record.assignment, {.training = true, .random = &c.random});
      });
      roots.add(made.stream + made.delta, direction_);
      roots.backward();
    });
  }

  /// Of the whole layer's products for one token, forward.
  double operations(const Contestant& c, int64_t pairs) const {
    return c.operations +
           bank_->flops_per_pair() * static_cast<double>(pairs) / static_cast<double>(shape_.tokens);
  }

 private:
  FeedForwardSpec spec(const System& system) const {
    const std::string text = fmt::format(
        "[model]\nhidden_size = {}\nnum_layers = 1\nnum_heads = 8\n[experts]\nnum_experts = {}\nwidth = {}\n",
        shape_.hidden, shape_.experts, shape_.width);
    const std::string tables =
        fmt::format(fmt::runtime(system.tables), fmt::arg("k", shape_.top_k),
                    fmt::arg("half_k", shape_.top_k / 2), fmt::arg("init", settings_.init),
                    fmt::arg("top_p", settings_.top_p), fmt::arg("threshold", settings_.threshold));
    return make_recipe(text + tables, system.slug).model.layers.at(0);
  }

  RoutingRecord record_of(Contestant& c, int64_t round, const Tensor& x) {
    return c.routers[static_cast<size_t>(round)]->route(
        x, {.round = round,
            .training = true,
            .num_steps = 1000,
            .micro_batch = 0,
            .num_sequences = std::max<int64_t>(1, shape_.tokens / kSequence),
            .random = &c.random});
  }

  /// What gradients flow back from, and which.
  struct Roots {
    std::vector<Tensor> roots, directions;

    void add(const Tensor& root, const Tensor& direction) {
      if (!root.requires_grad()) return;
      roots.push_back(root);
      directions.push_back(direction);
    }
    /// A loss, or nothing.
    void add(const Tensor& loss) {
      if (loss.defined()) add(loss, at::ones_like(loss));
    }
    void backward() const {
      if (!roots.empty()) torch::autograd::backward(roots, directions);
    }
  };

  /// Gradients are dropped and the step ended outside the time.
  template <typename Body>
  double timed(Contestant& c, const Body& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const auto& router : c.routers) router->end_step();
    for (const ParameterList& list : {weights_, c.parameters()}) {
      for (const NamedTensor& p : list) {
        Tensor tensor = p.tensor;
        tensor.mutable_grad() = Tensor();
      }
    }
    hidden_.mutable_grad() = Tensor();
    return seconds;
  }

  MoeShape shape_;
  RandomStream random_;
  Tensor hidden_, direction_;  // [T, H]
  Settings settings_;
  std::unique_ptr<ExpertBank> bank_;
  ParameterList weights_;  // the bank's
};

struct Times {
  std::vector<double> routing, layer, routing_over_plain, layer_over_plain;
};

}  // namespace

std::vector<RoutersRow> measure_routers(const MoeShape& shape, int rounds,
                                        const std::function<void(const std::string&)>& before_each) {
  Layer layer(shape);
  std::vector<Contestant> contestants;
  for (const System& system : kSystems) contestants.push_back(layer.make(system));
  std::vector<Times> times(contestants.size());
  std::vector<int64_t> pairs(contestants.size());
  for (int round = -1; round < rounds; ++round) {
    double plain_routing = 0, plain_layer = 0;
    for (size_t i = 0; i < contestants.size(); ++i) {
      before_each(contestants[i].slug);
      const double routing = layer.route(contestants[i]);
      const double whole = layer.compute(contestants[i], pairs[i]);
      if (i == 0) plain_routing = routing, plain_layer = whole;
      if (round < 0) continue;
      times[i].routing.push_back(routing);
      times[i].layer.push_back(whole);
      times[i].routing_over_plain.push_back(routing / plain_routing);
      times[i].layer_over_plain.push_back(whole / plain_layer);
    }
  }
  std::vector<RoutersRow> rows;
  const auto tokens = static_cast<double>(shape.tokens);
  for (size_t i = 0; i < contestants.size(); ++i)
    rows.push_back({.slug = contestants[i].slug,
                    .experts_per_token = static_cast<double>(pairs[i]) / tokens,
                    .routing_ns = median(times[i].routing) / tokens * 1e9,
                    .layer_ns = median(times[i].layer) / tokens * 1e9,
                    .routing_over_plain = median(times[i].routing_over_plain),
                    .layer_over_plain = median(times[i].layer_over_plain),
                    .operations_over_plain = layer.operations(contestants[i], pairs[i]) /
                                             layer.operations(contestants[0], pairs[0])});
  return rows;
}

}  // namespace gatewright::bench
