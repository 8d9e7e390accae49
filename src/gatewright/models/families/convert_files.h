// What lies beside a model's weights, config.json and the tokenizer's files, as keys of a GGUF file and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "gatewright/base/json.h"
#include "gatewright/formats/gguf_metadata.h"
#include "gatewright/text/tokenizer.h"

namespace gatewright {

/// Where a GGUF file keeps the config.json that it came with.
inline constexpr const char* kConfigKey = "gatewright.config";
/// Of the small files, in bytes.
inline constexpr uint64_t kLargestText = 64 << 20;

/// The configuration, the small files beside it and the tokenizer of a model's folder. vocab_size: rows of
/// the embedding, each of which gets a name. Gives a sentence when other programs can't read the vocabulary,
/// else "".
std::string add_files(GgufMetadata& keys, const std::filesystem::path& folder, const OrderedJson& config,
                      int64_t vocab_size);

/// The configuration that add_files kept; an empty object when there is none.
OrderedJson kept_config(const GgufMetadata& keys);
/// The vocabulary of a GGUF file; nothing when it has none.
std::optional<Tokenizer> tokenizer_in(const GgufMetadata& keys);

/// Small files beside config.json: name -> content.
using SmallFiles = std::map<std::string, std::string>;

/// The files that add_files kept or, where there are none, made from the vocabulary.
SmallFiles kept_files(const GgufMetadata& keys, const std::optional<Tokenizer>& tokenizer);
/// What a model's folder has of the tokenizer and the settings.
SmallFiles files_in(const std::filesystem::path& folder);

}  // namespace gatewright
