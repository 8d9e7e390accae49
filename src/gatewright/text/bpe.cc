#include "gatewright/text/bpe.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

void check_merge(const TokenizerDefinition& definition, const AddedIds& ids, size_t rank,
                 std::string_view what) {
  const BpeMerge& merge = definition.merges[rank];
  const auto known = [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < definition.tokens.size();
  };
  require(known(merge.left) && known(merge.right) && known(merge.result),
          "{}: merge {} names a token that the vocabulary does not have", what, rank);
  const auto token = [&](int32_t id) -> const std::string& {
    return definition.tokens[static_cast<size_t>(id)];
  };
  const std::string& left = token(merge.left);
  const std::string& right = token(merge.right);
  const std::string& result = token(merge.result);
  require(result.size() == left.size() + right.size() && result.starts_with(left) && result.ends_with(right),
          "{}: merge {} joins {} and {} to {}", what, rank, Quoted{left}, Quoted{right}, Quoted{result});
  for (const int32_t id : {merge.left, merge.right, merge.result})
    require(!ids.special[static_cast<size_t>(id)], "{}: merge {} uses the added token {}", what, rank,
            Quoted{token(id)});
}

}  // namespace

BpeMerger::BpeMerger(const TokenizerDefinition& definition, std::string_view what)
    : byte_level_(definition.kind == TokenizerKind::kByteLevelBpe),
      fuse_unknown_(definition.fuse_unknown),
      ignore_merges_(definition.ignore_merges),
      table_(definition.merges.size()),
      unknown_(definition, what) {
  const AddedIds ids(definition);
  byte_token_.fill(-1);
  for (size_t i = 0; i < definition.tokens.size(); ++i) {
    const std::string& token = definition.tokens[i];
    const auto id = static_cast<int32_t>(i);
    // An added token of a byte-level vocabulary is text, not bytes.
    if (ids.special[i] || (byte_level_ && ids.added[i])) continue;
    if (ignore_merges_) whole_words_.emplace(token, id);
    if (byte_level_) {
      if (token.size() == 1) byte_token_[static_cast<uint8_t>(token[0])] = id;
      continue;
    }
    const Utf8Character c = decode_utf8(token.data(), token.data() + token.size());
    if (c.size == token.size() && c.code != kInvalidUtf8) character_token_.emplace(c.code, id);
  }
  for (size_t rank = 0; rank < definition.merges.size(); ++rank) {
    check_merge(definition, ids, rank, what);
    const BpeMerge& merge = definition.merges[rank];
    const RankedMerge merged{.rank = static_cast<int32_t>(rank), .result = merge.result};
    require(table_.insert(merge.left, merge.right, merged).is_new, "{}: merge {} repeats an earlier one",
            what, rank);
  }
  may_leave_out_ = unknown_.leaves_out() && !knows_every_byte();
}

bool BpeMerger::knows_every_byte() const {
  return byte_level_ && std::ranges::none_of(byte_token_, [](int32_t id) { return id < 0; });
}

FirstToken BpeMerger::first(std::string_view word, uint32_t place) const {
  if (byte_level_) return {byte_token_[static_cast<uint8_t>(word[place])], 1};
  const Utf8Character c = decode_utf8(word.data() + place, word.data() + word.size());
  if (c.code == kInvalidUtf8) return {-1, 1};
  const auto found = character_token_.find(c.code);
  return {found == character_token_.end() ? -1 : found->second, c.size};
}

std::string BpeMerger::without_unknown(std::string_view word) const {
  std::string kept;
  for (size_t place = 0; place < word.size();) {
    const FirstToken token = first(word, static_cast<uint32_t>(place));
    if (token.id >= 0) kept.append(word, place, token.size);
    place += token.size;
  }
  return kept;
}

void BpeMerger::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  if (ignore_merges_) {
    const auto found = whole_words_.find(word);
    if (found != whole_words_.end()) return out.push_back(found->second);
  }
  std::string kept;
  if (may_leave_out_) {
    kept = without_unknown(word);
    if (kept.empty()) return;
    word = kept;
  }
  TokenSink sink(unknown_, fuse_unknown_, out);
  MergeLoop<BpeMerger>::run(*this, word, [&](int32_t id, std::string_view text) { sink.add(id, text); });
  sink.flush();
}

}  // namespace gatewright
