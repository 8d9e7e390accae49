// The precompiled character map of SentencePiece's normaliser: a double-array trie from byte sequences to
// places in a block of replacements that end in 0.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

class CharacterMap {
 public:
  /// bytes: uint32 size of the trie in bytes, its uint32 units, the replacements. Errors name `what`. Empty
  /// bytes map nothing.
  CharacterMap(std::string_view bytes, std::string_view what);

  /// Replaces, from left to right, the longest sequences that the map has.
  void append(std::string_view text, std::string& out) const;

 private:
  struct Match {
    size_t size = 0;  // 0: none
    size_t place = 0;
  };
  Match longest(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace gatewright
