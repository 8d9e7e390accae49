#include "gatewright/text/tokenizer_model.h"

#include "gatewright/base/error.h"
#include "gatewright/text/bpe.h"
#include "gatewright/text/scored_bpe.h"
#include "gatewright/text/unigram.h"
#include "gatewright/text/word_piece.h"

namespace gatewright {

std::string_view kind_name(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::kByteLevelBpe:
      return "byte-level BPE";
    case TokenizerKind::kBpe:
      return "BPE";
    case TokenizerKind::kScoredBpe:
      return "SentencePiece BPE";
    case TokenizerKind::kUnigram:
      return "Unigram";
    case TokenizerKind::kWordPiece:
      return "WordPiece";
  }
  return "";
}

std::unique_ptr<TokenizerModel> make_tokenizer_model(const TokenizerDefinition& definition,
                                                     std::string_view what) {
  switch (definition.kind) {
    case TokenizerKind::kByteLevelBpe:
    case TokenizerKind::kBpe:
      return std::make_unique<BpeMerger>(definition, what);
    case TokenizerKind::kScoredBpe:
      return std::make_unique<ScoredBpe>(definition, what);
    case TokenizerKind::kUnigram:
      return std::make_unique<Unigram>(definition, what);
    case TokenizerKind::kWordPiece:
      return std::make_unique<WordPiece>(definition, what);
  }
  fail("{}: an unknown kind of tokenizer", what);
}

AddedIds::AddedIds(const TokenizerDefinition& definition)
    : added(definition.tokens.size()), special(definition.tokens.size()) {
  for (const AddedToken& token : definition.added) {
    added[static_cast<size_t>(token.id)] = true;
    special[static_cast<size_t>(token.id)] = token.special;
  }
}

std::optional<uint8_t> byte_of_name(std::string_view token) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const int high = digit(token[3]), low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

std::string name_of_byte(uint8_t byte) { return fmt::format("<0x{:02X}>", byte); }

UnknownText::UnknownText(const TokenizerDefinition& definition, std::string_view what)
    : unknown_(definition.unknown) {
  if (!definition.byte_fallback) return;
  bytes_.assign(256, -1);
  for (size_t id = 0; id < definition.tokens.size(); ++id)
    if (const auto byte = byte_of_name(definition.tokens[id])) bytes_[*byte] = static_cast<int32_t>(id);
  for (size_t byte = 0; byte < 256; ++byte)
    require(bytes_[byte] >= 0,
            "{}: a vocabulary with byte fallback has the tokens <0x00> to <0xFF>, {} is missing", what,
            name_of_byte(static_cast<uint8_t>(byte)));
}

void UnknownText::encode(std::string_view text, std::vector<int32_t>& out) const {
  if (!bytes_.empty()) {
    for (const char byte : text) out.push_back(bytes_[static_cast<uint8_t>(byte)]);
  } else if (unknown_) {
    out.push_back(*unknown_);
  }
}

}  // namespace gatewright
