// The pre-tokenisers of published families: by the names that GGUF files call them by (tokenizer.ggml.pre),
// as tokenizer.json writes them, and which of their patterns a hand-written scanner knows.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "gatewright/base/json.h"

namespace gatewright {

struct PreTokenizerFamily {
  Json pre_tokenizer;          // ends with ByteLevel
  bool nfc = false;            // the text is normalised first
  bool ignore_merges = false;  // words that are tokens are not merged
  bool adds_begin = false;     // unless the file says otherwise
};
/// Of a byte-level vocabulary in GGUF. Nothing when the name is not known.
std::optional<PreTokenizerFamily> pre_tokenizer_family(std::string_view name);
/// All names that are known.
std::vector<std::string_view> pre_tokenizer_names();
/// The name of the family that cuts as this pre_tokenizer of a tokenizer.json does, "" when none does.
std::string_view name_of_pre_tokenizer(const Json& pre_tokenizer, bool ignore_merges);

enum class KnownPattern { kNone, kGpt2, kCl100k, kQwen2 };
KnownPattern known_pattern(std::string_view regex);

}  // namespace gatewright
