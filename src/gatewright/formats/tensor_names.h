// Numbers of layers and experts that stand in the names of tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace gatewright {

/// The number right after the first `mark` in a name: 3 after ".experts." in "mlp.experts.3.up". Nothing
/// without one.
std::optional<int64_t> number_after(std::string_view name, std::string_view mark);

/// N of a name that begins with "blk.N.", as GGUF has it.
std::optional<int64_t> gguf_layer(std::string_view name);

}  // namespace gatewright
