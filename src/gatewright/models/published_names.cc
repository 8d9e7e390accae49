#include "gatewright/models/published_names.h"

#include <span>
#include <string_view>
#include <utility>

namespace gatewright {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;

constexpr Replacement kRmoe[] = {{".mlp.gate.weight", ".mlp.weight"},
                                 {".mlp.", ".block_sparse_moe."},
                                 {".gate_proj.", ".w1."},
                                 {".down_proj.", ".w2."},
                                 {".up_proj.", ".w3."}};
constexpr Replacement kMixtureOfRouters[] = {{".mlp.gate.", ".mlp.moe_lora."},
                                             {".moe_lora.gate.", ".moe_lora."}};

std::span<const Replacement> replacements(const std::string& scorer) {
  if (scorer == "recurrent") return kRmoe;
  if (scorer == "mixture") return kMixtureOfRouters;
  return {};
}

}  // namespace

std::string published_name(const FeedForwardSpec& layer, std::string name) {
  if (!layer.routed) return name;
  for (const auto& [ours, theirs] : replacements(layer.router.scorer.name)) {
    if (const size_t at = name.find(ours); at != std::string::npos) name.replace(at, ours.size(), theirs);
  }
  return name;
}

}  // namespace gatewright
