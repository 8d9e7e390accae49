// What the tests of the choice share: scores, registered pieces with several settings, and plain comparisons.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/choice/weights.h"
#include "tests/testing.h"

namespace gatewright::choice {

constexpr float kMask = -std::numeric_limits<float>::infinity();

/// Scores with their storage.
struct Table {
  std::vector<float> values;
  int64_t num_tokens = 0;
  int64_t num_experts = 0;

  ScoreRows rows() const { return {.values = values, .num_tokens = num_tokens, .num_experts = num_experts}; }
  operator ScoreRows() const { return rows(); }
  float& at(int64_t token, int64_t expert) {
    return values[static_cast<size_t>(token * num_experts + expert)];
  }
  float at(int64_t token, int64_t expert) const {
    return values[static_cast<size_t>(token * num_experts + expert)];
  }
};

inline Table table(std::vector<float> values, int64_t num_experts) {
  const auto num_tokens = static_cast<int64_t>(values.size()) / num_experts;
  return {.values = std::move(values), .num_tokens = num_tokens, .num_experts = num_experts};
}

inline Table random_logits(int64_t num_tokens, int64_t num_experts, RandomStream& random) {
  Table result{.values = std::vector<float>(static_cast<size_t>(num_tokens * num_experts)),
               .num_tokens = num_tokens,
               .num_experts = num_experts};
  for (float& x : result.values) x = random.normal();
  return result;
}

inline Table activated(Activation activation, const Table& logits) {
  Table result = logits;
  const auto width = static_cast<size_t>(logits.num_experts);
  for (int64_t t = 0; t < logits.num_tokens; ++t) {
    const auto begin = static_cast<size_t>(t) * width;
    activate_row(activation, logits.rows().row(t), std::span(result.values).subspan(begin, width));
  }
  return result;
}

/// What a selector compares for these logits: the probabilities or the logits, -inf where a logit is.
inline Table compared(const Selector& selector, const Table& logits) {
  if (selector.reads() == Reads::kLogits) return logits;
  Table result = activated(Activation::kSoftmax, logits);
  for (size_t i = 0; i < result.values.size(); ++i) {
    if (logits.values[i] == kMask) result.values[i] = kMask;
  }
  return result;
}

using Given = std::map<std::string, Value>;

/// A registered selector with settings that suit a number of experts.
struct Case {
  std::string name;
  Given given;

  std::unique_ptr<Selector> make() const {
    const auto& entry = selectors().at(name);
    return entry.make(Values(entry.spec.parameters, given, name));
  }
  std::string text() const {
    std::string result = name;
    for (const auto& [key, value] : given) result += " " + key + "=" + to_string(value);
    return result;
  }
};

inline std::vector<Given> settings(const std::string& name, int64_t num_experts) {
  if (name == "top_k" || name == "random")
    return {{{"top_k", int64_t{1}}}, {}, {{"top_k", int64_t{8}}}, {{"top_k", int64_t{40}}}};
  if (name == "scheduled_top_k")
    return {{}, {{"k_inference", int64_t{1}}}, {{"k_min", int64_t{1}}, {"k_max", int64_t{1}}}};
  if (name == "stochastic") {
    return {{}, {{"inference", std::string("token")}}, {{"inference", std::string("ensemble")}}};
  }
  if (name == "top_p")
    return {
        {}, {{"top_p", 0.8}}, {{"min_experts", int64_t{3}}}, {{"top_p", 1.0}, {"max_experts", int64_t{2}}}};
  if (name == "min_p") return {{}, {{"min_p", 0.1}}, {{"min_p", 1.0}}};
  if (name == "threshold")
    return {{}, {{"threshold", 0.02}}, {{"threshold", 0.5}, {"min_experts", int64_t{2}}}};
  if (name == "expert_choice") return {{}, {{"experts_per_token", 0.7}}, {{"experts_per_token", 100.0}}};
  if (name == "group_limited_top_k") {
    const auto sum = Value(std::string("sum_of_two_best"));
    if (num_experts % 4 != 0) return {{{"num_groups", int64_t{1}}, {"groups_used", int64_t{1}}}};
    return {{}, {{"top_k", int64_t{3}}, {"group_score", sum}}, {{"groups_used", int64_t{1}}}};
  }
  return {{}};  // relu, all, and whatever is registered next
}

/// Every registered selector with each of its settings.
inline std::vector<Case> all_cases(int64_t num_experts) {
  std::vector<Case> result;
  for (const std::string& name : selectors().names()) {
    for (Given& given : settings(name, num_experts))
      result.push_back({.name = name, .given = std::move(given)});
  }
  return result;
}

/// Chooses with a stream of its own, the same at each call.
inline Selection choose(const Selector& selector, const ScoreRows& scores, int64_t layer = 0) {
  RandomStream random(11, "choice of a test");
  return selector.choose(scores, {.layer = layer, .random = &random});
}

/// Whether the selector draws random numbers.
inline bool draws(const Selector& selector) {
  RandomStream random(11, "choice of a test");
  const Table one = table({0.25f, 0.25f, 0.25f, 0.25f}, 4);
  selector.choose(one, {.layer = 0, .random = &random});
  return random.position() != 0;
}

inline std::vector<int32_t> row(const Rows& rows, int64_t token) {
  const auto ids = rows.row(token);
  return {ids.begin(), ids.end()};
}

inline std::vector<std::vector<int32_t>> lists(const Rows& rows) {
  std::vector<std::vector<int32_t>> result;
  for (int64_t t = 0; t < rows.num_tokens(); ++t) result.push_back(row(rows, t));
  return result;
}

inline std::vector<int64_t> random_order(int64_t n, RandomStream& random) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  random.shuffle(std::span(order));
  return order;
}

}  // namespace gatewright::choice
