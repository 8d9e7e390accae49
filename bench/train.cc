#include "train.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "bench/median.h"
#include "gatewright/base/random.h"
#include "gatewright/experts/feed_forward.h"
#include "gatewright/experts/registry.h"
#include "gatewright/kernels/cpu/gemm.h"
#include "gatewright/layers/attention.h"
#include "gatewright/layers/cross_entropy.h"
#include "gatewright/layers/linear.h"
#include "gatewright/layers/rms_norm.h"
#include "gatewright/layers/rotary.h"
#include "gatewright/models/decoder.h"
#include "gatewright/train/adamw.h"
#include "gatewright/train/recipe.h"

namespace gatewright::bench {
namespace {

constexpr int64_t kBatch = 8, kLength = 256, kTokens = kBatch * kLength;

const char* kModel = R"(
[model]
vocab_size = 8192
hidden_size = 256
num_layers = 6
num_heads = 8
)";

DecoderSpec spec_of(const std::string& name) {
  std::string text = kModel;
  if (name == "dense") {
    text += "dense_width = 1024\n";
  } else {
    const bool many = name == "moe_64_top8";
    text += fmt::format(
        "[experts]\nnum_experts = {}\nwidth = {}\n[routing]\ntop_k = "
        "{}\n[balance.switch]\n[balance.z_loss]\n",
        many ? 64 : 8, many ? 128 : 512, many ? 8 : 2);
  }
  return make_recipe(text, name).model;
}

/// Multiplications and additions of the products of one token's forward pass. Attention sees half the square.
double forward_flops(const DecoderSpec& s) {
  const double hidden = static_cast<double>(s.hidden_size), length = static_cast<double>(kLength);
  const double query = static_cast<double>(s.num_heads * s.head_dim),
               key = static_cast<double>(s.num_kv_heads * s.head_dim);
  double flops = 2 * hidden * static_cast<double>(s.vocab_size);
  for (const FeedForwardSpec& layer : s.layers) {
    flops += 2 * hidden * (2 * query + 2 * key) + 2 * query * length;
    if (layer.routed)
      flops +=
          2 * (experts_per_token(layer, 0) * static_cast<double>(expert_parameters(layer, s.hidden_size)) +
               hidden * static_cast<double>(layer.num_experts));
    else
      flops += 6 * hidden * static_cast<double>(layer.dense_width);
  }
  return flops;
}

double seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median_seconds(int rounds, const std::function<void()>& body) {
  for (int i = 0; i < 2; ++i) body();
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) times.push_back(seconds(body));
  return median(times);
}

/// The rate of a 2048-square product: OpenBLAS's or our own, whichever is faster. (An OpenBLAS that does not
/// know a processor falls back to kernels of a fraction of its rate.)
double product_gflops() {
  constexpr int64_t n = 2048;
  static const Tensor a = at::rand({n, n}), b = at::rand({n, n});
  static Tensor c = at::empty({n, n});
  const at::NoGradGuard no_grad;
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    best = std::min(best, seconds([&] { at::mm_out(c, a, b); }));
    best = std::min(best, seconds([&] {
                      kernels::gemm_nn(n, n, n, a.data_ptr<float>(), n, b.data_ptr<float>(), n,
                                       c.data_ptr<float>(), n, false);
                    }));
  }
  return 2.0 * n * n * n / best / 1e9;
}

Tensor random_ids(at::IntArrayRef shape, int64_t below, RandomStream& random) {
  Tensor ids = at::empty(shape, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(below)));
  return ids;
}

/// Milliseconds of a step's parts, each alone: forward and backward, times how often the step has it.
class Parts {
 public:
  Parts(const DecoderSpec& spec, int rounds) : spec_(spec), rounds_(rounds) {}

  std::vector<std::pair<std::string, double>> measure(AdamW& optimizer, const ParameterList& parameters,
                                                      double step) {
    const double layers = static_cast<double>(spec_.num_layers());
    add("projections", 4 * layers, [&] { return linear_layer(x_, square_); }, x_, {square_});
    const Tensor q = heads(), k = heads(), v = heads();
    add("attention", layers, [&] { return attention(q, k, v, {.first_key = first_key_}); }, q, {q, k, v});
    const RotaryTable table = make_rotary_table(kLength, spec_.head_dim, spec_.rotary.theta);
    const Tensor positions =
        at::arange(kLength, at::kLong).unsqueeze(0).expand({kBatch, kLength}).contiguous();
    add("rotary", 2 * layers, [&] { return rotary(q, table, positions); }, q, {q});
    add("norms", 4 * layers + 1, [&] { return rms_norm(x_, norm_, 1e-5); }, x_, {x_, norm_});
    feed_forward(layers);
    add_head();
    add_embedding();
    for (const NamedTensor& p : parameters) {
      if (p.trainable) Tensor(p.tensor).mutable_grad() = at::full_like(p.tensor, 1e-3);
    }
    parts_.emplace_back("optimiser", 1e3 * median_seconds(rounds_, [&] {
                                       gradient_norm(parameters);
                                       optimizer.step(1e-4);
                                     }));
    optimizer.zero_grad();
    double sum = 0;
    for (const auto& [name, ms] : parts_) sum += ms;
    parts_.emplace_back("rest", 1e3 * step - sum);
    return parts_;
  }

 private:
  Tensor leaf(at::IntArrayRef shape, double scale = 1) { return normal_parameter(shape, scale, random_); }
  Tensor heads() { return leaf({kBatch, kLength, spec_.num_heads, spec_.head_dim}); }

  void add(const std::string& name, double times, const std::function<Tensor()>& forward, const Tensor& like,
           const std::vector<Tensor>& leaves) {
    const Tensor direction = at::randn(like.sizes());
    const double time = median_seconds(rounds_, [&] {
      forward().backward(direction);
      for (const Tensor& t : leaves) t.mutable_grad() = Tensor();
      x_.mutable_grad() = Tensor();
    });
    parts_.emplace_back(name, 1e3 * times * time);
  }

  void feed_forward(double layers) {
    const FeedForwardSpec& layer = spec_.layers.front();
    if (!layer.routed) {
      const FfnTensors ffn = make_ffn_parameters(0, spec_.hidden_size, {.width = layer.dense_width}, random_);
      return add("feed-forward", layers, [&] { return dense_ffn(x_, ffn, Activation::swiglu); }, x_,
                 {ffn.gate, ffn.up, ffn.down});
    }
    Router router(layer.router, {.hidden_size = spec_.hidden_size, .num_experts = layer.num_experts},
                  random_);
    const auto bank = make_expert_bank(
        layer.experts, {}, {.hidden_size = spec_.hidden_size, .num_experts = layer.num_experts}, random_);
    const RoutingContext context{.training = true, .random = &random_};
    ParameterList routed, banked;
    router.collect(routed, "r");
    bank->collect(banked, "b");
    const RoutingRecord record = router.route(x_, context);
    Assignment fixed = record.assignment;
    fixed.weight = fixed.weight.detach().clone().set_requires_grad(true);
    std::vector<Tensor> leaves = {fixed.weight};
    for (const auto& p : banked) leaves.push_back(p.tensor);
    add(
        "experts", layers, [&] { return bank->forward(x_, fixed); }, x_, leaves);
    const double time = median_seconds(rounds_, [&] {
      const RoutingRecord r = router.route(x_, context);
      (r.loss + r.assignment.weight.sum()).backward();
      for (const auto& p : routed) Tensor(p.tensor).mutable_grad() = Tensor();
      x_.mutable_grad() = Tensor();
      router.end_step();
    });
    parts_.emplace_back("router", 1e3 * layers * time);
  }

  void add_head() {
    Tensor head = leaf({spec_.vocab_size, spec_.hidden_size}, 0.02);
    const Tensor targets = random_ids({kTokens}, spec_.vocab_size, random_);
    parts_.emplace_back("head and cross entropy", 1e3 * median_seconds(rounds_, [&] {
                                                    linear_cross_entropy(x_, head, targets).backward();
                                                    head.mutable_grad() = Tensor();
                                                    x_.mutable_grad() = Tensor();
                                                  }));
  }

  void add_embedding() {
    Tensor weight = leaf({spec_.vocab_size, spec_.hidden_size}, 0.02);
    const Tensor tokens = random_ids({kTokens}, spec_.vocab_size, random_);
    add("embedding", 1, [&] { return embed_tokens(tokens, weight); }, x_, {weight});
  }

  const DecoderSpec& spec_;
  int rounds_;
  RandomStream random_{1, "bench train parts"};
  Tensor x_ = leaf({kTokens, 256}), square_ = leaf({256, 256}, 0.02), norm_ = leaf({256});
  Tensor first_key_ = at::zeros({kBatch, kLength}, at::kInt);
  std::vector<std::pair<std::string, double>> parts_;
};

}  // namespace

const std::vector<std::string>& train_bench_names() {
  static const std::vector<std::string> names = {"dense", "moe_8_top2", "moe_64_top8"};
  return names;
}

TrainRow measure_train(const std::string& name, int rounds) {
  const DecoderSpec spec = spec_of(name);
  Decoder model(spec, 1);
  const ParameterList parameters = model.parameters();
  AdamW optimizer(parameters, {});
  RandomStream random(1, "bench train");
  const Tensor tokens = random_ids({kBatch, kLength + 1}, spec.vocab_size, random);
  const Batch batch{.tokens = tokens.narrow(1, 0, kLength).contiguous(),
                    .targets = tokens.narrow(1, 1, kLength).contiguous(),
                    .first_key = at::zeros({kBatch, kLength}, at::kInt)};
  const auto step = [&] {
    const DecoderOutput output = model.forward(batch, {.training = true});
    Tensor loss = linear_cross_entropy(output.hidden.reshape({-1, spec.hidden_size}), model.head(),
                                       batch.targets.reshape({-1}));
    if (output.balance_loss.defined()) loss = loss + output.balance_loss;
    loss.backward();
    const double scale = clip_factor(gradient_norm(parameters), 1.0);
    optimizer.step(1e-4, scale);
    optimizer.zero_grad();
    model.end_step();
  };
  const double flops = 3 * forward_flops(spec) * static_cast<double>(kTokens);
  std::vector<double> times, rates, ratios;
  for (int i = 0; i < 3; ++i) step();
  for (int i = 0; i < rounds; ++i) {
    rates.push_back(product_gflops());
    times.push_back(seconds(step));
    ratios.push_back(flops / (rates.back() * 1e9) / times.back());
  }
  TrainRow row{.name = name,
               .tokens_per_second = static_cast<double>(kTokens) / median(times),
               .product_gflops = median(rates)};
  row.share = median(ratios);
  row.product_bound_tokens_per_second = row.tokens_per_second / row.share;
  row.parts = Parts(spec, std::max(3, rounds / 2)).measure(optimizer, parameters, median(times));
  return row;
}

}  // namespace gatewright::bench
