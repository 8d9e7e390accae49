// A tokenizer as data, whatever file it came from: the vocabulary of its model, its added tokens, and the
// parts around the model (normalizer, pre_tokenizer, post_processor, decoder) as tokenizer.json writes them.
// Readers make one, Tokenizer runs it, writers take it back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/text/vocabulary.h"

namespace gatewright {

enum class TokenizerKind {
  kByteLevelBpe,  // BPE by ranks over bytes (GPT-2); tokens are bytes
  kBpe,           // BPE by ranks over characters
  kScoredBpe,     // BPE by the score of what a pair makes (SentencePiece, model type BPE)
  kUnigram,       // the most probable cut (SentencePiece, model type Unigram)
  kWordPiece,     // the longest pieces from the left (BERT)
};

/// "byte-level BPE", ...
std::string_view kind_name(TokenizerKind kind);

struct TokenizerDefinition {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  std::vector<std::string> tokens;  // of each id; added tokens by their content
  std::vector<BpeMerge> merges;     // BPE by ranks, the first to be applied first
  std::vector<double> scores;       // scored BPE and Unigram: one a token
  std::vector<AddedToken> added;    // sorted by id; their contents stand in `tokens`, too

  std::optional<int32_t> unknown;  // what stands for text that no token covers
  bool byte_fallback = false;      // such text becomes the tokens <0x00> to <0xFF>
  bool fuse_unknown = false;       // neighbouring unknown characters are one unknown token
  bool ignore_merges = false;      // a word that is a token is not merged
  std::string continuing_prefix;   // WordPiece: before pieces that continue a word
  int64_t longest_word = 100;      // WordPiece: characters; a longer word is unknown

  // As in tokenizer.json, null when there is none.
  Json normalizer, pre_tokenizer, post_processor, decoder;

  // What tokenizer.json does not hold: tokenizer_config.json and GGUF do.
  std::optional<int32_t> begin, end, padding;
  std::string chat_template;
};

}  // namespace gatewright
