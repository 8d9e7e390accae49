// A mixture of experts out of a dense model: each feed-forward is copied into experts (Komatsuzaki et al.
// 2022, "Sparse Upcycling", arXiv 2212.05055), or its neurons are divided among them (Zhu et al. 2024,
// "LLaMA-MoE", arXiv 2406.16554). Written in Mixtral's layout. No LibTorch.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "gatewright/models/families/model_source.h"

namespace gatewright {

enum class UpcycleSplit {
  kCopy,        // every expert is the whole feed-forward
  kContiguous,  // neurons in the order of the file
  kRandom,      // neurons drawn without replacement
  kClustered    // neurons whose rows of the gate matrix point into near directions, as many in each expert
};

struct UpcycleOptions {
  int64_t num_experts = 8;
  int64_t top_k = 2;
  UpcycleSplit split = UpcycleSplit::kCopy;
  std::vector<int64_t> layers = {};  // empty: all
  double noise = 0;  // standard deviation of what is added to each copied weight, over the matrix's own
  double router_init = 0.02;  // standard deviation of the router's weights; 0: all experts tie
  uint64_t seed = 0;
};

/// The mixture as a model that can be written (convert.h) and is computed from `dense` while it is, which
/// must outlive it. Copies keep the type of the file (F32 with noise); of divided feed-forwards the down
/// projection is multiplied by the number of experts, because Mixtral's weights of the chosen sum to one, and
/// is F32 where the file has it packed. With all experts chosen and equal weights (router_init 0) the output
/// is the dense model's.
///
/// Fails unless `dense` is of the families llama or mistral, which Mixtral's layout continues, widths divide
/// and layers exist.
std::unique_ptr<ModelSource> upcycle(const ModelSource& dense, const UpcycleOptions& options);

/// The neurons of each expert, as many in each; what kClustered does for gate rows [width, hidden].
std::vector<std::vector<int64_t>> cluster_neurons(std::span<const float> gate, int64_t hidden,
                                                  int64_t num_experts, uint64_t seed);

}  // namespace gatewright
