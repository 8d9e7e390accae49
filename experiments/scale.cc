#include "experiments/scale.h"

#include <fmt/format.h>

#include <cmath>

namespace gatewright::experiments {

double Scale::init() const {
  constexpr double kInit = 0.1, kOfSize = 32;
  return kInit * std::sqrt(kOfSize / static_cast<double>(hidden_size));
}

std::string Scale::model_recipe() const {
  return fmt::format("[model]\nhidden_size = {}\nnum_layers = {}\nnum_heads = 4\ninit = {:.4g}\n",
                     hidden_size, num_layers, init());
}

Scale full_scale() {
  return {.hidden_size = 128,
          .num_layers = 4,
          .width = 64,
          .length = 128,
          .rows = 16,
          .steps = 1500,
          .fresh_rows = 64};
}

}  // namespace gatewright::experiments
