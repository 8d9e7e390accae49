#include "gatewright/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/hash.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/added_tokens.h"
#include "gatewright/text/bert_scanner.h"
#include "gatewright/text/bpe.h"
#include "gatewright/text/cl100k_scanner.h"
#include "gatewright/text/gpt2_scanner.h"
#include "gatewright/text/normalizer.h"
#include "gatewright/text/post_processor.h"
#include "gatewright/text/pre_tokenizer.h"
#include "gatewright/text/token_decoder.h"
#include "gatewright/text/tokenizer_file.h"
#include "gatewright/text/tokenizer_json.h"
#include "gatewright/text/tokenizer_model.h"
#include "gatewright/text/word_borders.h"
#include "gatewright/text/word_cache.h"

namespace gatewright {
namespace {

void check_added(const TokenizerDefinition& definition, std::string_view what) {
  int32_t last = -1;
  for (const AddedToken& token : definition.added) {
    require(token.id > last && static_cast<size_t>(token.id) < definition.tokens.size() &&
                definition.tokens[static_cast<size_t>(token.id)] == token.content,
            "{}: the added token {} does not agree with the vocabulary at id {}", what, Quoted{token.content},
            token.id);
    last = token.id;
  }
}

void check_ids(const TokenizerDefinition& definition, std::string_view what) {
  const auto check = [&](const std::optional<int32_t>& id, std::string_view name) {
    require(!id || (*id >= 0 && static_cast<size_t>(*id) < definition.tokens.size()),
            "{}: the {} token has the id {}, the vocabulary has ids 0 to {}", what, name, id.value_or(0),
            definition.tokens.size() - 1);
  };
  check(definition.unknown, "unknown");
  check(definition.begin, "begin");
  check(definition.end, "end");
  check(definition.padding, "padding");
}

TokenizerDefinition checked(TokenizerDefinition definition, std::string_view what) {
  require(!definition.tokens.empty(), "{}: the vocabulary has no tokens", what);
  require(definition.tokens.size() <= INT32_MAX, "{}: {} tokens do not fit 32-bit ids", what,
          definition.tokens.size());
  for (const std::string& token : definition.tokens)
    require(!token.empty(), "{}: token {} is empty", what, &token - definition.tokens.data());
  check_added(definition, what);
  check_ids(definition, what);
  return definition;
}

TokenizerDefinition definition_of(BpeVocabulary vocabulary) {
  TokenizerDefinition definition;
  definition.tokens = std::move(vocabulary.tokens);
  definition.merges = std::move(vocabulary.merges);
  definition.added = std::move(vocabulary.added);
  definition.pre_tokenizer = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  definition.decoder = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  return definition;
}

}  // namespace

struct Tokenizer::State {
  State(TokenizerDefinition given, std::string_view what)
      : definition(checked(std::move(given), what)),
        normalizer(definition.normalizer, what),
        pre_tokenizer(definition.pre_tokenizer, what),
        post_processor(PostProcessor::read(definition.post_processor,
                                           static_cast<int64_t>(definition.tokens.size()), what)),
        decoder(definition, what),
        model(make_tokenizer_model(definition, what)),
        pieces(decoder.pieces(definition)),
        ids(definition),
        word_borders(definition) {
    require(pre_tokenizer.byte_level() == (definition.kind == TokenizerKind::kByteLevelBpe),
            "{}: a ByteLevel pre_tokenizer and a byte-level vocabulary belong together", what);
    for (const AddedToken& token : definition.added)
      if (token.special && token.content == kEndOfText) end_of_text = token.id;
    for (const bool special : {false, true})
      for (const bool normalized : {false, true}) cutters[special][normalized] = cutter(special, normalized);
    normalized_special = std::ranges::any_of(
        definition.added, [](const AddedToken& token) { return token.special && token.normalized; });
    lossless = keeps_everything();
    fingerprint = hash_bytes(fingerprinted_json(definition));
  }

  AddedTokenCutter cutter(bool special_too, bool normalized) const {
    std::vector<AddedToken> tokens;
    std::vector<std::string> contents;
    for (const AddedToken& token : definition.added) {
      if ((token.special && !special_too) || token.normalized != normalized) continue;
      std::string buffer;
      contents.emplace_back(normalized ? normalizer.apply(token.content, buffer) : token.content);
      tokens.push_back(token);
    }
    return AddedTokenCutter(std::move(tokens), std::move(contents));
  }

  bool keeps_everything() const {
    const auto* bytes = dynamic_cast<const BpeMerger*>(model.get());
    const bool strips = std::ranges::any_of(
        definition.added, [](const AddedToken& t) { return !t.special && (t.lstrip || t.rstrip); });
    return bytes && bytes->knows_every_byte() && normalizer.empty() && pre_tokenizer.lossless() &&
           decoder.plain() && !strips;
  }

  void encode(std::string_view text, EncodeOptions options, std::vector<int32_t>& out) const {
    const AddedTokenCutter& raw = cutters[options.parse_special][false];
    bool begins = true;
    const PlainParts plain = {.parts = options.parse_special ? options.plain : std::span<const TextRange>(),
                              .others = &cutters[false][false]};
    const auto on_text = [&](std::string_view part) {
      encode_raw(part, parts_within(plain.parts, text, part), options, begins, out);
      begins = false;
    };
    if (raw.empty()) return on_text(text);
    raw.cut(text, plain, on_text, [&](int32_t id) {
      out.push_back(id);
      begins = false;
    });
  }

  /// The plain parts of `piece`, which lies in `text`, counted from its begin; none when nothing asks for
  /// them.
  std::vector<TextRange> parts_within(std::span<const TextRange> parts, std::string_view text,
                                      std::string_view piece) const {
    std::vector<TextRange> within;
    if (!normalized_special) return within;
    const auto offset = static_cast<size_t>(piece.data() - text.data());
    for (const TextRange part : parts)
      if (part.begin < offset + piece.size() && part.end > offset)
        within.push_back({std::max(part.begin, offset) - offset, std::min(part.end - offset, piece.size())});
    return within;
  }

  /// Where the parts of a text lie in what the normaliser made of it: from where the text up to a part comes
  /// out the same by itself to where the text after it does. Where neighbours melt a part grows by them.
  std::vector<TextRange> normalised(std::vector<TextRange> parts, std::string_view text,
                                    std::string_view normal) const {
    if (normalizer.empty()) return parts;
    std::string buffer;
    for (TextRange& part : parts) {
      const std::string_view before = normalizer.apply(text.substr(0, part.begin), buffer);
      part.begin = static_cast<size_t>(std::ranges::mismatch(before, normal).in1 - before.begin());
      const std::string_view after = normalizer.apply(text.substr(part.end), buffer);
      const auto same = std::mismatch(after.rbegin(), after.rend(), normal.rbegin(), normal.rend()).first;
      part.end = normal.size() - static_cast<size_t>(same - after.rbegin());
    }
    return parts;
  }

  void encode_raw(std::string_view text, std::vector<TextRange> parts, EncodeOptions options, bool begins,
                  std::vector<int32_t>& out) const {
    std::string buffer;
    const std::string_view normal = normalizer.empty() ? text : normalizer.apply(text, buffer);
    if (!parts.empty()) parts = normalised(std::move(parts), text, normal);
    const AddedTokenCutter& cutter = cutters[options.parse_special][true];
    const auto on_text = [&](std::string_view part) {
      encode_text(part, begins && part.data() == normal.data(), out);
    };
    if (cutter.empty()) return on_text(normal);
    const PlainParts plain = {.parts = parts, .others = &cutters[false][true]};
    cutter.cut(normal, plain, on_text, [&](int32_t id) { out.push_back(id); });
  }

  void encode_text(std::string_view text, bool begins, std::vector<int32_t>& out) const {
    switch (pre_tokenizer.only()) {
      case PreTokenizer::Only::kGpt2:
        return scan<Gpt2Scanner>(text, out);
      case PreTokenizer::Only::kDigitsGpt2:
        return scan<DigitsGpt2Scanner>(text, out);
      case PreTokenizer::Only::kCl100k:
        return scan<Cl100kScanner>(text, out);
      case PreTokenizer::Only::kQwen2:
        return scan<Qwen2Scanner>(text, out);
      case PreTokenizer::Only::kBert:
        return scan<BertScanner>(text, out);
      case PreTokenizer::Only::kNothing:
        return encode_whole(text, out);
      case PreTokenizer::Only::kOther:
        break;
    }
    WordCache& cache = WordCache::of_this_thread();
    const auto on_word = [&](const PreTokenizer::Piece& word) {
      encode_word(word.text, word.buffer, cache, out);
    };
    pre_tokenizer.cut({.text = text, .buffer = text, .begins_text = begins}, on_word);
  }

  template <typename Scanner>
  void scan(std::string_view text, std::vector<int32_t>& out) const {
    WordCache& cache = WordCache::of_this_thread();
    for (Scanner words(text); !words.done();) encode_word(words.next(), text, cache, out);
  }

  /// Without a pre-tokeniser: one word, cut where no token can tell the difference.
  void encode_whole(std::string_view text, std::vector<int32_t>& out) const {
    WordCache& cache = WordCache::of_this_thread();
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = word_borders.end_of_word(text, begin);
      encode_word(text.substr(begin, end - begin), text, cache, out);
      begin = end;
    }
  }

  void encode_word(std::string_view word, std::string_view buffer, WordCache& cache,
                   std::vector<int32_t>& out) const {
    const WordCache::Key key = WordCache::key(word, buffer);
    if (!key.fits) return model->encode_word(word, out);
    if (cache.find(key, cache_owner, out)) return;
    const size_t begin = out.size();
    model->encode_word(word, out);
    cache.keep(key, cache_owner, std::span(out).subspan(begin));
  }

  const TokenizerDefinition definition;
  const Normalizer normalizer;
  const PreTokenizer pre_tokenizer;
  const PostProcessor post_processor;
  const TokenDecoder decoder;
  const std::unique_ptr<const TokenizerModel> model;
  const std::vector<std::string> pieces;  // what each token adds to a text
  const AddedIds ids;
  const WordBorders word_borders;
  std::array<std::array<AddedTokenCutter, 2>, 2> cutters;  // [special ones, too][of the normalised text]
  bool normalized_special = false;  // whether special tokens are looked for in the normalised text
  const uint64_t cache_owner = WordCache::new_owner();
  std::optional<int32_t> end_of_text;
  bool lossless = false;
  uint64_t fingerprint = 0;
};

Tokenizer::Tokenizer(TokenizerDefinition definition, std::string_view what)
    : state_(std::make_shared<const State>(std::move(definition), what)) {}

Tokenizer::Tokenizer(BpeVocabulary vocabulary, std::string_view what)
    : Tokenizer(definition_of(std::move(vocabulary)), what) {}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return Tokenizer(read_tokenizer_file(path), path.string());
}

Tokenizer Tokenizer::parse(std::string_view json, std::string_view what) {
  return Tokenizer(read_tokenizer_json(json, what), what);
}

std::string Tokenizer::to_json() const { return write_tokenizer_json(state_->definition); }

std::string Tokenizer::config_json() const { return write_tokenizer_config(state_->definition); }

void Tokenizer::save(const std::filesystem::path& path) const { write_file(path, to_json()); }

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3);
  encode(text, ids, options);
  return ids;
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& out, EncodeOptions options) const {
  const PostProcessor& post = state_->post_processor;
  if (options.add_special) out.insert(out.end(), post.before.begin(), post.before.end());
  state_->encode(text, options, out);
  if (options.add_special) out.insert(out.end(), post.after.begin(), post.after.end());
}

std::string Tokenizer::decode(std::span<const int32_t> ids, DecodeOptions options) const {
  std::string text;
  for (const int32_t id : ids) {
    const std::string& bytes = token_bytes(id);
    if (!options.skip_special || !state_->ids.special[static_cast<size_t>(id)]) text += bytes;
  }
  return state_->decoder.finish(std::move(text));
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  require(id >= 0 && id < vocab_size(), "token id {} is not in the vocabulary, which has ids 0 to {}", id,
          vocab_size() - 1);
  return state_->pieces[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && state_->ids.special[static_cast<size_t>(id)];
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(state_->definition.tokens.size()); }
TokenizerKind Tokenizer::kind() const { return state_->definition.kind; }
const TokenizerDefinition& Tokenizer::definition() const { return state_->definition; }
bool Tokenizer::lossless() const { return state_->lossless; }
std::optional<int32_t> Tokenizer::end_of_text() const {
  return state_->end_of_text ? state_->end_of_text : state_->definition.end;
}

std::optional<int32_t> Tokenizer::begin() const {
  const std::vector<int32_t>& before = state_->post_processor.before;
  if (state_->definition.begin) return state_->definition.begin;
  return before.size() == 1 ? std::optional(before[0]) : std::nullopt;
}

std::optional<int32_t> Tokenizer::end() const {
  const std::vector<int32_t>& after = state_->post_processor.after;
  if (state_->definition.end) return state_->definition.end;
  return after.size() == 1 ? std::optional(after[0]) : std::nullopt;
}

std::optional<int32_t> Tokenizer::unknown() const { return state_->definition.unknown; }
std::optional<int32_t> Tokenizer::padding() const { return state_->definition.padding; }

std::optional<int32_t> Tokenizer::find(std::string_view token) const {
  for (const AddedToken& added : state_->definition.added)
    if (added.content == token) return added.id;
  const std::vector<std::string>& tokens = state_->definition.tokens;
  const auto found = std::ranges::find(tokens, token);
  if (found == tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - tokens.begin());
}

const std::string& Tokenizer::chat_template() const { return state_->definition.chat_template; }
uint64_t Tokenizer::fingerprint() const { return state_->fingerprint; }

}  // namespace gatewright
