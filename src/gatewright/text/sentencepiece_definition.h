// What a vocabulary of SentencePiece means, whether it stands in a model file or in GGUF.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/tokenizer_definition.h"

namespace gatewright {

/// Types of tokens, as SentencePiece and GGUF number them.
enum class TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct SentencePieceVocabulary {
  TokenizerKind kind = TokenizerKind::kScoredBpe;  // or kUnigram
  std::vector<std::string> tokens;
  std::vector<double> scores;
  std::vector<TokenType> types;      // one a token
  std::string character_map;         // of the normaliser, "" for none
  bool add_space_prefix = true;      // a space before each text
  bool remove_extra_spaces = false;  // at the ends of the text, and all but one between words
};

/// Tokens, scores, added tokens, normaliser and decoder; the ids of begin, end and so on are the caller's.
/// Errors name `what`.
TokenizerDefinition sentencepiece_definition(SentencePieceVocabulary vocabulary, std::string_view what);

/// The type that a number stands for; an error names the token.
TokenType token_type(int64_t number, size_t id, std::string_view what);
/// What a token of the type is added as: control and unknown tokens as special ones, user defined ones not.
void add_by_type(TokenType type, int32_t id, const std::string& content, std::vector<AddedToken>& added);
/// Refuses tokens that stand in the vocabulary twice.
void check_tokens_differ(const std::vector<std::string>& tokens, std::string_view what);

}  // namespace gatewright
