#include "gatewright/routing/choice/pairs.h"

#include "gatewright/base/error.h"

namespace gatewright::choice {
namespace {

/// Where each key starts when edges are sorted by key, and where the last one ends.
std::vector<int64_t> begins(std::span<const int64_t> counts) {
  std::vector<int64_t> begin(counts.size() + 1, 0);
  for (size_t k = 0; k < counts.size(); ++k) begin[k + 1] = begin[k] + counts[k];
  return begin;
}

}  // namespace

Pairs by_expert(const Rows& rows, int64_t num_experts, std::vector<int64_t>* place) {
  std::vector<int64_t> counts(static_cast<size_t>(num_experts), 0);
  for (int32_t e : rows.expert) {
    require(e >= 0 && e < num_experts, "[pairs] expert {} was chosen, the experts are 0 to {}", e,
            num_experts - 1);
    ++counts[static_cast<size_t>(e)];
  }
  Pairs pairs{.num_tokens = rows.num_tokens(),
              .expert_begin = begins(counts),
              .token = std::vector<int64_t>(rows.expert.size())};
  std::vector<int64_t> next(pairs.expert_begin.begin(), pairs.expert_begin.end() - 1);
  if (place != nullptr) place->resize(rows.expert.size());
  size_t i = 0;
  for (int64_t t = 0; t < pairs.num_tokens; ++t) {
    for (int32_t e : rows.row(t)) {
      const int64_t at = next[static_cast<size_t>(e)]++;
      pairs.token[static_cast<size_t>(at)] = t;
      if (place != nullptr) (*place)[i++] = at;
    }
  }
  return pairs;
}

Rows by_token(const Pairs& pairs) {
  std::vector<int64_t> counts(static_cast<size_t>(pairs.num_tokens), 0);
  for (int64_t t : pairs.token) {
    require(t >= 0 && t < pairs.num_tokens, "[pairs] token {} was chosen, the tokens are 0 to {}", t,
            pairs.num_tokens - 1);
    ++counts[static_cast<size_t>(t)];
  }
  Rows rows{.row_begin = begins(counts), .expert = std::vector<int32_t>(pairs.token.size())};
  std::vector<int64_t> next(rows.row_begin.begin(), rows.row_begin.end() - 1);
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    for (int64_t i = pairs.expert_begin[static_cast<size_t>(e)];
         i < pairs.expert_begin[static_cast<size_t>(e) + 1]; ++i) {
      const auto t = static_cast<size_t>(pairs.token[static_cast<size_t>(i)]);
      rows.expert[static_cast<size_t>(next[t]++)] = static_cast<int32_t>(e);
    }
  }
  return rows;
}

void validate(const Pairs& pairs, std::string_view what) {
  require(!pairs.expert_begin.empty() && pairs.expert_begin.front() == 0 &&
              pairs.expert_begin.back() == pairs.size(),
          "[{}] expert_begin must run from 0 to the {} pairs", what, pairs.size());
  for (int64_t e = 0; e < pairs.num_experts(); ++e) {
    const int64_t begin = pairs.expert_begin[static_cast<size_t>(e)],
                  end = pairs.expert_begin[static_cast<size_t>(e) + 1];
    require(begin <= end && begin >= 0 && end <= pairs.size(), "[{}] expert_begin falls at expert {}", what,
            e);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t t = pairs.token[static_cast<size_t>(i)];
      require(t >= 0 && t < pairs.num_tokens, "[{}] token {} of expert {}, there are {} tokens", what, t, e,
              pairs.num_tokens);
      require(i == begin || pairs.token[static_cast<size_t>(i) - 1] < t,
              "[{}] the tokens of expert {} do not ascend at {}", what, e, t);
    }
  }
}

}  // namespace gatewright::choice
