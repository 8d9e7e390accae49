#include "gatewright/text/sentencepiece_definition.h"

#include <algorithm>
#include <unordered_map>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/base64.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {
namespace {

constexpr const char* kSpaceMark = "\u2581";

Json replace(const char* kind, const char* pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}};
}

Json normalizer_of(const SentencePieceVocabulary& vocabulary) {
  Json steps = Json::array();
  if (!vocabulary.character_map.empty())
    steps.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(vocabulary.character_map)}});
  if (vocabulary.remove_extra_spaces) {
    steps.push_back(replace("Regex", R"(\A +| +\z)", ""));
    steps.push_back(replace("Regex", " {2,}", " "));
  }
  if (vocabulary.add_space_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kSpaceMark}});
  steps.push_back(replace("String", " ", kSpaceMark));
  return {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

Json decoder_of(const SentencePieceVocabulary& vocabulary) {
  Json steps =
      Json::array({replace("String", kSpaceMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (vocabulary.add_space_prefix)
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

/// Byte tokens are named <0x00> to <0xFF>, and there are all or none.
bool has_bytes(const SentencePieceVocabulary& vocabulary, std::string_view what) {
  size_t named = 0;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const bool is_byte = byte_of_name(vocabulary.tokens[id]).has_value();
    require(is_byte || vocabulary.types[id] != TokenType::kByte,
            "{}: token {} stands for a byte and is named {}; such names go from <0x00> to <0xFF>", what, id,
            Quoted{vocabulary.tokens[id]});
    named += vocabulary.types[id] == TokenType::kByte;
  }
  require(named == 0 || named == 256, "{}: {} tokens stand for bytes; there are 256 or none", what, named);
  return named == 256;
}

}  // namespace

TokenType token_type(int64_t number, size_t id, std::string_view what) {
  require(number >= 1 && number <= 6, "{}: token {} has the type {}; types go from 1 to 6", what, id, number);
  return static_cast<TokenType>(number);
}

void add_by_type(TokenType type, int32_t id, const std::string& content, std::vector<AddedToken>& added) {
  const bool special = type == TokenType::kControl || type == TokenType::kUnknown;
  if (special || type == TokenType::kUserDefined)
    added.push_back({.id = id, .content = content, .special = special});
}

void check_tokens_differ(const std::vector<std::string>& tokens, std::string_view what) {
  std::unordered_map<std::string_view, size_t> seen;
  seen.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    const auto [place, is_new] = seen.emplace(tokens[id], id);
    require(is_new, "{}: the tokens {} and {} are both {}", what, place->second, id, Quoted{tokens[id]});
  }
}

TokenizerDefinition sentencepiece_definition(SentencePieceVocabulary vocabulary, std::string_view what) {
  require(vocabulary.types.size() == vocabulary.tokens.size(), "{}: {} types for {} tokens", what,
          vocabulary.types.size(), vocabulary.tokens.size());
  check_tokens_differ(vocabulary.tokens, what);
  TokenizerDefinition made;
  made.kind = vocabulary.kind;
  made.byte_fallback = has_bytes(vocabulary, what);
  made.fuse_unknown = true;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    if (type == TokenType::kUnknown && !made.unknown) made.unknown = static_cast<int32_t>(id);
    add_by_type(type, static_cast<int32_t>(id), vocabulary.tokens[id], made.added);
  }
  made.normalizer = normalizer_of(vocabulary);
  made.decoder = decoder_of(vocabulary);
  made.tokens = std::move(vocabulary.tokens);
  made.scores = std::move(vocabulary.scores);
  return made;
}

}  // namespace gatewright
