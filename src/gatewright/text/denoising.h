// Texts rewritten so that a model learns to fill in what is missing, for a causal model: what is known comes
// first, what is asked for after it (Tay et al. 2022, "UL2: Unifying Language Learning Paradigms", section
// 3.1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gatewright/base/random.h"

namespace gatewright {

/// As many tokens as targets: the next token of each, -1 where it is known and not asked for.
struct DenoisedText {
  std::vector<int32_t> tokens = {}, targets = {};
};

/// The end of the text is asked for: the share `rate` of its targets, at least one (prefix language model).
/// @param text  n + 1 tokens of which n are targets, n >= 1
DenoisedText with_asked_end(std::span<const int32_t> text, double rate);

/// Spans that are removed from a text, and by which tokens they are named.
struct SpanRule {
  double mean_length = 3;  // tokens
  double rate = 0.15;      // share of the text that is removed
  int32_t first_sentinel = 0;
  int64_t num_sentinels = 100;  // consecutive ids from the first on
};

/// Spans at random places are each replaced by the next sentinel, and asked for at the end: the sentinel,
/// then the span (Raffel et al. 2020, section 3.1.4). As much of the beginning of the text is taken as fits
/// into n places. A text that is too short for one span has its end asked for.
/// @param text  n + 1 tokens, n >= 1
DenoisedText with_asked_spans(std::span<const int32_t> text, const SpanRule& rule, RandomStream& random);

}  // namespace gatewright
