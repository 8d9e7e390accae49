#include "gatewright/models/published_names.h"

#include <array>
#include <string_view>
#include <utility>

namespace gatewright {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;

constexpr std::array<Replacement, 5> kRmoe = {{{".mlp.gate.weight", ".mlp.weight"},
                                               {".mlp.", ".block_sparse_moe."},
                                               {".gate_proj.", ".w1."},
                                               {".down_proj.", ".w2."},
                                               {".up_proj.", ".w3."}}};

}  // namespace

std::string published_name(const FeedForwardSpec& layer, std::string name) {
  if (!layer.routed || layer.router.scorer.name != "recurrent") return name;
  for (const auto& [ours, theirs] : kRmoe) {
    if (const size_t at = name.find(ours); at != std::string::npos) name.replace(at, ours.size(), theirs);
  }
  return name;
}

}  // namespace gatewright
