// What the tests of the routing room share: plain tables as tensors, finite differences, routers by name.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gatewright/routing/router.h"
#include "tests/random_tensors.h"
#include "tests/routing/choice/random_choice.h"

namespace gatewright {

using choice::Given;

inline Tensor tensor(const std::vector<float>& values, at::IntArrayRef shape) {
  return at::tensor(values, at::kFloat).reshape(shape).clone();
}
inline Tensor tensor(const choice::Table& table) {
  return tensor(table.values, {table.num_tokens, table.num_experts});
}

inline choice::ScoreRows rows_of(const Tensor& table) {
  return {.values = {table.data_ptr<float>(), static_cast<size_t>(table.numel())},
          .num_tokens = table.size(0),
          .num_experts = table.size(1)};
}

inline std::vector<float> to_floats(const Tensor& t) {
  const Tensor plain = t.detach().to(at::kFloat).contiguous();
  return {plain.data_ptr<float>(), plain.data_ptr<float>() + plain.numel()};
}

/// The slope of a scalar function at each entry of x, by central differences; x is float64.
inline Tensor slopes(const Tensor& x, const std::function<Tensor(const Tensor&)>& f, double step = 1e-5) {
  Tensor at = x.detach().clone().contiguous(), result = at::zeros_like(at);
  double *value = at.data_ptr<double>(), *slope = result.data_ptr<double>();
  for (int64_t i = 0; i < at.numel(); ++i) {
    const double before = value[i];
    value[i] = before + step;
    const double high = f(at).item<double>();
    value[i] = before - step;
    const double low = f(at).item<double>();
    value[i] = before;
    slope[i] = (high - low) / (2 * step);
  }
  return result;
}

/// The gradient that autograd gives for the same function.
inline Tensor gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  Tensor at = leaf(x);
  f(at).backward();
  return at.grad();
}

/// A scorer whose logits are its input.
struct Echo final : Scorer {
  Tensor logits(const Tensor& hidden, const RoutingContext&) override { return hidden; }
  void collect(ParameterList&, const std::string&) const override {}
};

inline RouterSpec spec_of(const std::string& scorer, const std::string& selector,
                          const Given& selector_values = {}) {
  const Given given = scorer == "linear" ? Given{{"init", 0.5}} : Given{};
  return {.scorer = make_piece(scorers(), scorer, given),
          .selector = make_piece(choice::selectors(), selector, selector_values),
          .activation = selector == "relu" ? choice::Activation::kSigmoid : choice::Activation::kSoftmax};
}

inline std::unique_ptr<Scorer> make_scorer(const std::string& name, const RouterSizes& sizes,
                                           const Given& given = {}, uint64_t seed = 1) {
  RandomStream random(seed, "scorer");
  return scorers().at(name).make(make_piece(scorers(), name, given).values, sizes, random);
}

inline std::unique_ptr<BalanceTerm> make_term(const std::string& name, const Given& given = {},
                                              int64_t num_experts = 4) {
  return balance_terms().at(name).make(make_piece(balance_terms(), name, given).values,
                                       {.hidden_size = 8, .num_experts = num_experts});
}

/// Names of the balance terms that work with any scorer.
inline std::vector<std::string> general_terms() {
  std::vector<std::string> names;
  for (const auto& entry : balance_terms().entries()) {
    if (entry.spec.needs_scorer.empty()) names.push_back(entry.spec.name);
  }
  return names;
}

/// Each token of `chosen` visits the experts listed, weighted by their probabilities.
inline Assignment assign(const Scores& scores, const std::vector<std::vector<int32_t>>& chosen) {
  choice::Rows rows;
  for (const auto& ids : chosen) {
    rows.expert.insert(rows.expert.end(), ids.begin(), ids.end());
    rows.row_begin.push_back(static_cast<int64_t>(rows.expert.size()));
  }
  return weigh({}, scores, {.rows = rows});
}

inline Scores scores_of(const Tensor& logits, choice::Activation activation = choice::Activation::kSoftmax) {
  return {.logits = logits, .probabilities = activate(activation, logits), .activation = activation};
}

}  // namespace gatewright
