// What vocabularies are made of: merges and added tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gatewright {

/// A token that is not learned but declared, as `added_tokens` of tokenizer.json has it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = true;  // a control token, never made from plain text unless the caller allows it
  bool single_word = false, lstrip = false, rstrip = false, normalized = false;
};

struct BpeMerge {
  int32_t left = 0, right = 0, result = 0;
};

/// A byte-level vocabulary while it is learned.
struct BpeVocabulary {
  std::vector<std::string> tokens;  // bytes of each id
  std::vector<BpeMerge> merges;     // by rank, the first to be applied first
  std::vector<AddedToken> added;    // sorted by id; their contents stand in `tokens`, too
};

}  // namespace gatewright
