// Selective multi-head attention (Union of Experts 2025, arXiv 2503.02495): each head is an expert that
// serves the tokens of its list and attends among them only. With every token in every list it is plain
// attention.
#pragma once

#include <vector>

#include "gatewright/layers/attention.h"
#include "gatewright/layers/rotary.h"
#include "gatewright/routing/assignment.h"

namespace gatewright {

/// Head h of H owns the rows h D to (h + 1) D of query, key and value and the same columns of output.
struct HeadWeights {
  Tensor query, key, value;               // [H D, d]
  Tensor output;                          // [d, H D]
  Tensor output_bias = {};                // [d], added once to each token that a head serves
  Tensor query_norm = {}, key_norm = {};  // [D], root mean square norms of each head; undefined: none
  double norm_epsilon = 1e-5;
};

struct SelectiveOptions {
  /// Rotary positions count the tokens of a head's list, and not those of the document.
  bool subsequence_positions = false;
  int64_t window = 0;     // a token sees none before its position - window + 1; 0: all
  Tensor first_key = {};  // int32 [B, S], index in the row of its document's first token; undefined: 0
  const RotaryTable* rotary = nullptr;  // null: no rotary embedding
};

/// x [B, S, d] and the lists of B S tokens over H heads, ascending in position -> [B, S, d]: the sum over a
/// token's heads of weight x W_o,h attention_h(token), zero for a token without a head. Tokens of other rows,
/// of other documents and later ones are not seen. A recurrence memory is the beginning of x, whose rows of
/// the result are left out. In float32 on the CPU, attention is the kernel's; other types take plain tensor
/// operations.
Tensor selective_attention(const Tensor& x, const Assignment& lists, const HeadWeights& weights,
                           const SelectiveOptions& options = {});

/// The same for tokens that continue those of the cache, which receives theirs. No gradients.
Tensor selective_attention_with_cache(const Tensor& x, const Assignment& lists, const HeadWeights& weights,
                                      KeyValueCache& cache, const SelectiveOptions& options = {});

/// Multiply-adds of the forward products; scores are those of queries with keys, counted as whole squares.
struct AttentionCost {
  double projections = 0, scores = 0;
};

/// Of lists of these lengths, one for each head of each sequence: 4 d D and length x D a token.
AttentionCost selective_cost(const std::vector<int64_t>& list_lengths, int64_t hidden_size, int64_t head_dim);

}  // namespace gatewright
