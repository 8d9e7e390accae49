#include "gatewright/kernels/cpu/ffn_plan.h"

#include <algorithm>

namespace gatewright::kernels {
namespace {
constexpr int64_t kPanelRows = 32;
}

FfnPlan plan_ffn(int64_t experts, const int64_t* expert_begin, int64_t chunk_rows) {
  FfnPlan plan;
  plan.panel_begin.push_back(0);
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t begin = expert_begin[e], end = expert_begin[e + 1];
    const int64_t first = plan.panel_begin.back();
    const int64_t panels = (end - begin + kPanelRows - 1) / kPanelRows;
    // To the nearest: two chunks read the expert's weights twice, and a few rows more than one has are no
    // reason.
    const int64_t chunks =
        end > begin ? std::max<int64_t>(1, (end - begin + chunk_rows / 2) / chunk_rows) : 0;
    for (int64_t c = 0; c < chunks; ++c) {
      const int64_t from = panels * c / chunks, to = panels * (c + 1) / chunks;
      plan.chunks.push_back({.expert = e,
                             .first_pair = begin + from * kPanelRows,
                             .rows = std::min(end, begin + to * kPanelRows) - begin - from * kPanelRows,
                             .first_panel = first + from});
    }
    plan.panel_begin.push_back(first + panels);
  }
  return plan;
}

int64_t ffn_chunk_rows(const FfnSizes& sizes, int64_t pairs, int threads) {
  constexpr int64_t kActivationFloats = int64_t{1} << 19;  // 2 MB of input and middle activations
  constexpr int64_t kChunksPerThread = 4;
  const int64_t fitting = kActivationFloats / std::max<int64_t>(1, sizes.hidden + sizes.width);
  const int64_t fair = pairs / (kChunksPerThread * std::max(1, threads));
  const int64_t rows = std::clamp<int64_t>(std::min(fitting, fair), 4 * kPanelRows, 8 * kPanelRows);
  return rows / kPanelRows * kPanelRows;
}

TokenIndex index_by_token(int64_t tokens, int64_t pairs, const int64_t* token) {
  TokenIndex index;
  index.begin.assign(static_cast<size_t>(tokens) + 1, 0);
  index.pair.resize(static_cast<size_t>(pairs));
  for (int64_t i = 0; i < pairs; ++i) ++index.begin[static_cast<size_t>(token[i]) + 1];
  for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) index.begin[t + 1] += index.begin[t];
  std::vector<int64_t> next(index.begin.begin(), index.begin.end() - 1);
  for (int64_t i = 0; i < pairs; ++i)
    index.pair[static_cast<size_t>(next[static_cast<size_t>(token[i])]++)] = i;
  return index;
}

}  // namespace gatewright::kernels
