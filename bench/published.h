// What models of the published shapes take here: a file with random weights is written, and run as a user
// runs it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "gatewright/formats/tensor_view.h"
#include "gatewright/models/families/architecture.h"

namespace gatewright::bench {

struct PublishedRow {
  double file_bytes = 0;
  double write_seconds = 0, load_seconds = 0;
  double prompt_tokens_per_second = 0;  // of a prompt of 512
  double decode_tokens_per_second = 0;  // one by one, with a cache
  double learn_tokens_per_second = 0;   // forward and backward to all routers, nothing else learns
  // Memory of the process that no file stands behind, at its largest; a command does one of the two.
  double run_own_bytes = 0;    // for a prompt and an answer
  double learn_own_bytes = 0;  // for the routers' gradients
  double mapped_bytes = 0;     // of the file in memory at the end; the system may drop it
};

/// Writes FOLDER/bench-published.gguf, with its matrices in the type, and removes it at the end.
/// at: told what comes next.
PublishedRow measure_published(const Architecture& architecture, DataType type,
                               const std::filesystem::path& folder,
                               const std::function<void(const std::string&)>& at);

}  // namespace gatewright::bench
