// How the pairs of an assignment are cut into pieces of work: panels of 32 rows of one expert, and chunks of
// consecutive panels.
#pragma once

#include <cstdint>
#include <vector>

#include "gatewright/kernels/cpu/expert_ffn.h"

namespace gatewright::kernels {

struct FfnChunk {
  int64_t expert;
  int64_t first_pair;
  int64_t rows;
  int64_t first_panel;  // in the whole assignment
};

struct FfnPlan {
  std::vector<FfnChunk> chunks;
  std::vector<int64_t> panel_begin;  // [E + 1]

  int64_t num_panels() const { return panel_begin.back(); }
};

/// chunk_rows: a multiple of 32.
FfnPlan plan_ffn(int64_t experts, const int64_t* expert_begin, int64_t chunk_rows);

/// Rows of a chunk: enough to reuse each copy of a weight tile often, few enough that activations stay in the
/// L2 cache and that every thread gets several chunks.
int64_t ffn_chunk_rows(const FfnSizes& sizes, int64_t pairs, int threads);

/// The pairs of each token: those of token t are pair[begin[t]] to pair[begin[t + 1] - 1], ascending.
struct TokenIndex {
  std::vector<int64_t> begin;  // [T + 1]
  std::vector<int64_t> pair;   // [N]
};
TokenIndex index_by_token(int64_t tokens, int64_t pairs, const int64_t* token);

}  // namespace gatewright::kernels
