// What the experiments on points around cluster centres share: the points, and a classifier of residual
// expert layers made of the library's routers and banks.
#pragma once

#include <memory>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/experts/expert_bank.h"
#include "gatewright/routing/router.h"
#include "gatewright/train/adamw.h"

namespace gatewright::experiments {

/// Adam with LibTorch's defaults and without decay.
inline constexpr AdamWOptions kAdam = {.beta2 = 0.999, .weight_decay = 0};

/// Standard normal draws without gradient, float32.
Tensor normal_tensor(at::IntArrayRef shape, RandomStream& random);
/// `count` numbers below `size`, drawn evenly and independently: int64 [count].
Tensor draw_indices(int64_t size, int64_t count, RandomStream& random);

/// Centres in space, and points around them.
class Clusters {
 public:
  /// `count` centres in R^width, normal with standard deviation `spread`.
  Clusters(int64_t count, int64_t width, double spread, RandomStream& random);

  struct Points {
    Tensor x;        // float32 [n, width]
    Tensor cluster;  // int64 [n], whose centre it was drawn around
    int64_t size() const { return x.size(0); }
  };
  /// Evenly drawn centres plus unit normal noise.
  Points draw(int64_t count, RandomStream& random) const;
  /// The nearest centre of each point of x [n, width]: int64 [n].
  Tensor nearest(const Tensor& x) const;

 private:
  Tensor centres_;  // [count, width]
};

/// 24 centres in R^16 with spread 1.1, the same for every seed.
Clusters fixed_clusters();

struct Labelled {
  Tensor x;      // float32 [n, width]
  Tensor label;  // int64 [n]
};
/// `count` evenly drawn rows, with replacement.
Labelled draw_batch(const Labelled& data, int64_t count, RandomStream& random);

/// Layers x + experts(x), all alike, and a linear map to classes.
class ExpertClassifier {
 public:
  struct Spec {
    int64_t hidden_size = 0;
    int64_t num_layers = 1;
    int64_t num_experts = 1;
    int64_t width = 0;  // of an expert, a ReLU feed-forward with biases
    int64_t num_classes = 0;
    RouterSpec router = {};
  };
  /// Initial weights from streams of `seed`.
  ExpertClassifier(const Spec& spec, uint64_t seed);

  struct Output {
    Tensor logits;                            // [n, classes]
    std::vector<RoutingRecord> routing = {};  // one a layer
    Tensor balance_loss = {};                 // undefined when there is none
  };
  /// x [n, hidden]; `random` for routers that draw.
  Output forward(const Tensor& x, bool training, RandomStream& random);

  /// After each optimiser step.
  void end_step();

  ParameterList parameters() const;
  /// Takes over the weights of a classifier with the same parameters and another router.
  void copy_from(const ExpertClassifier& other);

  /// Standard deviation of initial weights: that of uniform draws in +- 1 / sqrt(width), with which linear
  /// maps of this size usually begin.
  static constexpr double kInit = 0.14;

 private:
  std::vector<Router> routers_;
  std::vector<std::unique_ptr<ExpertBank>> banks_;
  Tensor head_, head_bias_;
};

/// Mean over rows of logits [n, classes].
Tensor mean_cross_entropy(const Tensor& logits, const Tensor& labels);
/// Share of rows of logits [n, classes] whose largest is that of the label, int64 [n].
double accuracy(const Tensor& logits, const Tensor& labels);

}  // namespace gatewright::experiments
