#include "gatewright/text/gguf_vocabulary.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/post_processor.h"
#include "gatewright/text/pre_tokenizer.h"
#include "gatewright/text/sentencepiece_definition.h"
#include "gatewright/text/split_patterns.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";
constexpr std::string_view kSpaceMark = "\u2581";
constexpr std::string_view kTemplate = "tokenizer.chat_template";
constexpr std::string_view kStripsLeft = "gatewright.tokenizer.lstrip";
constexpr std::string_view kStripsRight = "gatewright.tokenizer.rstrip";

std::string key_of(std::string_view name) { return std::string(kPrefix).append(name); }

std::optional<int64_t> integer(const GgufMetadata& metadata, std::string_view name) {
  const std::string key = key_of(name);
  if (!metadata.contains(key)) return std::nullopt;
  return metadata.integer(key);
}
std::optional<bool> flag(const GgufMetadata& metadata, std::string_view name) {
  const std::string key = key_of(name);
  if (!metadata.contains(key)) return std::nullopt;
  return metadata.flag(key);
}

/// The id, checked; nothing when there is none.
std::optional<int32_t> token_id(const std::optional<int64_t>& id, std::string_view name, size_t count,
                                std::string_view what) {
  if (!id) return std::nullopt;
  require(*id >= 0 && *id < static_cast<int64_t>(count), "{}: {}{} is {}, the vocabulary has ids 0 to {}",
          what, kPrefix, name, *id, count - 1);
  return static_cast<int32_t>(*id);
}

std::vector<TokenType> types_of(const GgufVocabulary& vocabulary, std::string_view what) {
  const size_t count = vocabulary.tokens.size();
  if (vocabulary.types.empty()) return std::vector<TokenType>(count, TokenType::kNormal);
  require(vocabulary.types.size() == count, "{}: {}token_type has {} entries for {} tokens", what, kPrefix,
          vocabulary.types.size(), count);
  std::vector<TokenType> types;
  for (size_t id = 0; id < count; ++id) types.push_back(token_type(vocabulary.types[id], id, what));
  return types;
}

/// Names what each token is.
std::unordered_map<std::string_view, int32_t> ids_of(const std::vector<std::string>& names) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(names.size());
  for (size_t id = 0; id < names.size(); ++id) ids.emplace(names[id], static_cast<int32_t>(id));
  return ids;
}

std::vector<BpeMerge> merges_of(const GgufVocabulary& vocabulary, std::string_view what) {
  const std::unordered_map<std::string_view, int32_t> ids = ids_of(vocabulary.tokens);
  std::vector<BpeMerge> merges;
  merges.reserve(vocabulary.merges.size());
  const auto token = [&](std::string_view name) {
    const auto found = ids.find(name);
    require(found != ids.end(), "{}: merge {} needs the token {}, which the vocabulary does not have", what,
            merges.size(), Quoted{name});
    return found->second;
  };
  for (const std::string_view merge : vocabulary.merges) {
    const size_t space = merge.find(' ', 1);
    require(space != std::string_view::npos && merge.find(' ', space + 1) == std::string_view::npos,
            "{}: merge {} is {}, not \"left right\"", what, merges.size(), Quoted{merge});
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    merges.push_back(
        {.left = token(left), .right = token(right), .result = token(std::string(left).append(right))});
  }
  return merges;
}

void set_template(const GgufVocabulary& vocabulary, bool adds_begin, bool adds_end,
                  TokenizerDefinition& made) {
  std::vector<int32_t> before, after;
  if (vocabulary.add_begin.value_or(adds_begin) && made.begin) before.push_back(*made.begin);
  if (vocabulary.add_end.value_or(adds_end) && made.end) after.push_back(*made.end);
  made.post_processor = template_processing(before, after, made.tokens);
}

TokenizerDefinition byte_level(const GgufVocabulary& vocabulary, const std::vector<TokenType>& types,
                               std::string_view what) {
  // Files of before the key was thought of: most cut as GPT-2 does.
  const auto family = pre_tokenizer_family(vocabulary.pre.empty() ? "gpt-2" : vocabulary.pre);
  require(family.has_value(), "{}: {}pre is {}, which is not known; known are {}", what, kPrefix,
          Quoted{vocabulary.pre}, fmt::join(pre_tokenizer_names(), ", "));
  check_tokens_differ(vocabulary.tokens, what);
  TokenizerDefinition made;
  made.kind = TokenizerKind::kByteLevelBpe;
  made.ignore_merges = family->ignore_merges;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& name = vocabulary.tokens[id];
    const size_t added = made.added.size();
    add_by_type(types[id], static_cast<int32_t>(id), name, made.added);
    if (made.added.size() > added) {
      made.tokens.push_back(name);
      continue;
    }
    std::optional<std::string> bytes = from_byte_alphabet(name);
    require(bytes.has_value(), "{}: token {}, {}, is not made of byte-level characters", what, id,
            Quoted{name});
    made.tokens.push_back(std::move(*bytes));
  }
  made.merges = merges_of(vocabulary, what);
  if (family->nfc) made.normalizer = {{"type", "NFC"}};
  made.pre_tokenizer = family->pre_tokenizer;
  made.decoder = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  made.begin = token_id(vocabulary.begin, "bos_token_id", made.tokens.size(), what);
  made.end = token_id(vocabulary.end, "eos_token_id", made.tokens.size(), what);
  // Every text has its bytes, so nothing is unknown; the id is checked all the same.
  token_id(vocabulary.unknown, "unknown_token_id", made.tokens.size(), what);
  set_template(vocabulary, family->adds_begin, false, made);
  return made;
}

TokenizerDefinition sentencepiece(const GgufVocabulary& vocabulary, std::vector<TokenType> types,
                                  std::string_view what) {
  require(vocabulary.scores.size() == vocabulary.tokens.size(), "{}: {}scores has {} entries for {} tokens",
          what, kPrefix, vocabulary.scores.size(), vocabulary.tokens.size());
  SentencePieceVocabulary given;
  given.tokens = vocabulary.tokens;
  given.scores = vocabulary.scores;
  given.types = std::move(types);
  given.add_space_prefix = vocabulary.add_space_prefix.value_or(true);
  TokenizerDefinition made = sentencepiece_definition(std::move(given), what);
  const size_t count = made.tokens.size();
  made.begin = token_id(vocabulary.begin, "bos_token_id", count, what);
  made.end = token_id(vocabulary.end, "eos_token_id", count, what);
  const auto unknown = token_id(vocabulary.unknown, "unknown_token_id", count, what);
  if (unknown) made.unknown = unknown;
  set_template(vocabulary, true, false, made);
  return made;
}

bool in_brackets(std::string_view token) { return token.starts_with('[') && token.ends_with(']'); }

/// GGUF marks what begins a word, BERT what continues one.
std::string word_piece_name(const std::string& name) {
  if (in_brackets(name)) return name;
  return name.starts_with(kSpaceMark) ? name.substr(kSpaceMark.size()) : "##" + name;
}
std::string gguf_name(const std::string& name, std::string_view prefix) {
  if (in_brackets(name)) return name;
  return name.starts_with(prefix) && name.size() > prefix.size() ? name.substr(prefix.size())
                                                                 : std::string(kSpaceMark).append(name);
}

TokenizerDefinition word_piece(const GgufVocabulary& vocabulary, const std::vector<TokenType>& types,
                               std::string_view what) {
  TokenizerDefinition made;
  made.kind = TokenizerKind::kWordPiece;
  made.continuing_prefix = "##";
  const bool marked =
      std::ranges::any_of(vocabulary.tokens, [](const std::string& t) { return t.starts_with(kSpaceMark); });
  bool cased = false;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& name = vocabulary.tokens[id];
    made.tokens.push_back(marked ? word_piece_name(name) : name);
    add_by_type(types[id], static_cast<int32_t>(id), made.tokens.back(), made.added);
    cased |= types[id] == TokenType::kNormal && !in_brackets(name) &&
             std::ranges::any_of(name, [](char c) { return c >= 'A' && c <= 'Z'; });
  }
  check_tokens_differ(made.tokens, what);
  const std::unordered_map<std::string_view, int32_t> ids = ids_of(made.tokens);
  const auto named = [&](const std::optional<int64_t>& id, std::string_view key,
                         std::string_view name) -> std::optional<int32_t> {
    if (id) return token_id(id, key, made.tokens.size(), what);
    const auto found = ids.find(name);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  };
  made.unknown = named(vocabulary.unknown, "unknown_token_id", "[UNK]");
  // GGUF does not say whether case matters; a vocabulary without capitals says it.
  made.normalizer = {{"type", "BertNormalizer"},
                     {"clean_text", true},
                     {"handle_chinese_chars", true},
                     {"strip_accents", nullptr},
                     {"lowercase", !cased}};
  made.pre_tokenizer = {{"type", "BertPreTokenizer"}};
  made.decoder = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  std::vector<int32_t> before, after;
  if (const auto id = named(vocabulary.classifier, "cls_token_id", "[CLS]")) before.push_back(*id);
  if (const auto id = named(vocabulary.separator, "seperator_token_id", "[SEP]")) after.push_back(*id);
  made.post_processor = template_processing(before, after, made.tokens);
  made.begin = token_id(vocabulary.begin, "bos_token_id", made.tokens.size(), what);
  made.end = token_id(vocabulary.end, "eos_token_id", made.tokens.size(), what);
  return made;
}

void set_strips(const GgufVocabulary& vocabulary, std::string_view what, TokenizerDefinition& made) {
  const auto set = [&](const std::vector<int64_t>& ids, std::string_view key, bool AddedToken::*strips) {
    for (const int64_t id : ids) {
      const auto token = std::ranges::find(made.added, id, &AddedToken::id);
      require(token != made.added.end(), "{}: {} names token {}, which is no added one", what, key, id);
      (*token).*strips = true;
    }
  };
  set(vocabulary.strips_left, kStripsLeft, &AddedToken::lstrip);
  set(vocabulary.strips_right, kStripsRight, &AddedToken::rstrip);
}

bool is_phi3(const GgufMetadata& metadata) {
  return metadata.text_or("general.architecture", "") == "phi3" && metadata.text(key_of("model")) == "llama";
}

/// The tokens of Phi-3 that its tokenizer.json has with "rstrip": those of a conversation and "</s>".
std::vector<int64_t> phi3_strips_right(const GgufVocabulary& vocabulary) {
  std::vector<int64_t> ids;
  for (size_t id = 0; id < std::min(vocabulary.tokens.size(), vocabulary.types.size()); ++id) {
    const auto type = vocabulary.types[id];
    const std::string& token = vocabulary.tokens[id];
    const bool added = type == static_cast<int64_t>(TokenType::kControl) ||
                       type == static_cast<int64_t>(TokenType::kUserDefined);
    if (added && token != "<unk>" && token != "<s>" && token != "<|endoftext|>")
      ids.push_back(static_cast<int64_t>(id));
  }
  return ids;
}

/// One a token, higher for what is merged earlier.
std::vector<double> scores_of_merges(const TokenizerDefinition& definition) {
  std::vector<double> scores(definition.tokens.size(), 0);
  for (size_t rank = definition.merges.size(); rank > 0; --rank)
    scores[static_cast<size_t>(definition.merges[rank - 1].result)] = -static_cast<double>(rank);
  const double lowest = -static_cast<double>(definition.merges.size() + 1);
  const AddedIds ids(definition);
  for (size_t id = 0; id < scores.size(); ++id)
    if (scores[id] == 0 && !ids.added[id] && !byte_of_name(definition.tokens[id])) scores[id] = lowest;
  return scores;
}

std::vector<int64_t> types_of(const TokenizerDefinition& definition) {
  std::vector<int64_t> types(definition.tokens.size(), static_cast<int64_t>(TokenType::kNormal));
  if (definition.byte_fallback)
    for (size_t id = 0; id < types.size(); ++id)
      if (byte_of_name(definition.tokens[id])) types[id] = static_cast<int64_t>(TokenType::kByte);
  for (const AddedToken& token : definition.added)
    types[static_cast<size_t>(token.id)] =
        static_cast<int64_t>(!token.special ? TokenType::kUserDefined
                             : token.id == definition.unknown && definition.kind != TokenizerKind::kWordPiece
                                 ? TokenType::kUnknown
                                 : TokenType::kControl);
  return types;
}

std::vector<std::string> byte_level_names(const TokenizerDefinition& definition) {
  std::vector<std::string> names;
  names.reserve(definition.tokens.size());
  for (const std::string& token : definition.tokens) names.push_back(to_byte_alphabet(token));
  for (const AddedToken& token : definition.added) names[static_cast<size_t>(token.id)] = token.content;
  return names;
}

void set_byte_level(const TokenizerDefinition& definition, GgufVocabulary& made) {
  made.model = "gpt2";
  made.pre = name_of_pre_tokenizer(definition.pre_tokenizer, definition.ignore_merges);
  require(!made.pre.empty(), "GGUF has no name for the pre-tokeniser of this tokenizer");
  made.tokens = byte_level_names(definition);
  for (const BpeMerge& merge : definition.merges)
    made.merges.push_back(made.tokens[static_cast<size_t>(merge.left)] + " " +
                          made.tokens[static_cast<size_t>(merge.right)]);
}

/// Whether the normaliser puts a space before texts and marks spaces, as SentencePiece does.
bool marks_spaces(const TokenizerDefinition& definition, bool& adds_prefix) {
  const std::string parts = definition.normalizer.dump() + definition.pre_tokenizer.dump();
  adds_prefix = parts.find("Prepend") != std::string::npos || (parts.find("Metaspace") != std::string::npos &&
                                                               parts.find("\"never\"") == std::string::npos);
  return parts.find(kSpaceMark) != std::string::npos || parts.find("Metaspace") != std::string::npos;
}

void set_sentencepiece(const TokenizerDefinition& definition, GgufVocabulary& made) {
  bool adds_prefix = false;
  require(marks_spaces(definition, adds_prefix),
          "GGUF holds no BPE over characters that does not mark spaces");
  made.model = "llama";
  made.pre = "default";
  made.tokens = definition.tokens;
  made.scores =
      definition.kind == TokenizerKind::kScoredBpe ? definition.scores : scores_of_merges(definition);
  made.add_space_prefix = adds_prefix;
}

}  // namespace

bool has_vocabulary(const GgufMetadata& metadata) {
  return metadata.text_or(key_of("model"), "no_vocab") != "no_vocab";
}

GgufVocabulary read_gguf_vocabulary(const GgufMetadata& metadata) {
  require(has_vocabulary(metadata), "{} has no vocabulary: {}model is missing or no_vocab", metadata.what(),
          kPrefix);
  GgufVocabulary made;
  made.model = metadata.text(key_of("model"));
  made.pre = metadata.text_or(key_of("pre"), "");
  made.tokens = metadata.texts(key_of("tokens"));
  if (metadata.contains(key_of("scores"))) made.scores = metadata.numbers(key_of("scores"));
  if (metadata.contains(key_of("token_type"))) made.types = metadata.integers(key_of("token_type"));
  if (metadata.contains(key_of("merges"))) made.merges = metadata.texts(key_of("merges"));
  made.begin = integer(metadata, "bos_token_id");
  made.end = integer(metadata, "eos_token_id");
  made.unknown = integer(metadata, "unknown_token_id");
  made.padding = integer(metadata, "padding_token_id");
  made.separator = integer(metadata, "seperator_token_id");  // spelt so by the format
  made.classifier = integer(metadata, "cls_token_id");
  made.mask = integer(metadata, "mask_token_id");
  made.add_begin = flag(metadata, "add_bos_token");
  made.add_end = flag(metadata, "add_eos_token");
  made.add_space_prefix = flag(metadata, "add_space_prefix");
  if (metadata.contains(kStripsLeft)) made.strips_left = metadata.integers(kStripsLeft);
  if (metadata.contains(kStripsRight))
    made.strips_right = metadata.integers(kStripsRight);
  else if (is_phi3(metadata))
    made.strips_right = phi3_strips_right(made);
  made.chat_template = metadata.text_or(kTemplate, "");
  return made;
}

void write_gguf_vocabulary(const GgufVocabulary& vocabulary, GgufMetadata& metadata) {
  const auto set = [&](std::string_view name, bool given, const auto& value) {
    if (given)
      metadata.set(key_of(name), value());
    else
      metadata.erase(key_of(name));
  };
  const auto set_id = [&](std::string_view name, const std::optional<int64_t>& id) {
    set(name, id.has_value(), [&] { return GgufValue(static_cast<uint32_t>(*id)); });
  };
  const auto set_flag = [&](std::string_view name, const std::optional<bool>& value) {
    set(name, value.has_value(), [&] { return GgufValue(*value); });
  };
  set("model", true, [&] { return GgufValue(vocabulary.model); });
  set("pre", !vocabulary.pre.empty(), [&] { return GgufValue(vocabulary.pre); });
  set("tokens", true, [&] { return GgufValue(vocabulary.tokens); });
  set("scores", !vocabulary.scores.empty(),
      [&] { return GgufValue(std::vector<float>(vocabulary.scores.begin(), vocabulary.scores.end())); });
  set("token_type", !vocabulary.types.empty(),
      [&] { return GgufValue(std::vector<int32_t>(vocabulary.types.begin(), vocabulary.types.end())); });
  set("merges", !vocabulary.merges.empty(), [&] { return GgufValue(vocabulary.merges); });
  set_id("bos_token_id", vocabulary.begin);
  set_id("eos_token_id", vocabulary.end);
  set_id("unknown_token_id", vocabulary.unknown);
  set_id("padding_token_id", vocabulary.padding);
  set_id("seperator_token_id", vocabulary.separator);
  set_id("cls_token_id", vocabulary.classifier);
  set_id("mask_token_id", vocabulary.mask);
  set_flag("add_bos_token", vocabulary.add_begin);
  set_flag("add_eos_token", vocabulary.add_end);
  set_flag("add_space_prefix", vocabulary.add_space_prefix);
  const auto set_strips = [&](std::string_view key, const std::vector<int64_t>& ids, bool said) {
    metadata.erase(key);
    if (said) metadata.set(key, GgufValue(std::vector<int32_t>(ids.begin(), ids.end())));
  };
  set_strips(kStripsLeft, vocabulary.strips_left, !vocabulary.strips_left.empty());
  set_strips(kStripsRight, vocabulary.strips_right, !vocabulary.strips_right.empty() || is_phi3(metadata));
  if (vocabulary.chat_template.empty())
    metadata.erase(kTemplate);
  else
    metadata.set(kTemplate, vocabulary.chat_template);
}

TokenizerDefinition definition_of(const GgufVocabulary& vocabulary, std::string_view what) {
  require(!vocabulary.tokens.empty(), "{}: the vocabulary has no tokens", what);
  std::vector<TokenType> types = types_of(vocabulary, what);
  TokenizerDefinition made;
  if (vocabulary.model == "gpt2")
    made = byte_level(vocabulary, types, what);
  else if (vocabulary.model == "llama")
    made = sentencepiece(vocabulary, std::move(types), what);
  else if (vocabulary.model == "bert")
    made = word_piece(vocabulary, types, what);
  else
    fail("{}: {}model is {}; read are gpt2, llama and bert", what, kPrefix, Quoted{vocabulary.model});
  made.padding = token_id(vocabulary.padding, "padding_token_id", made.tokens.size(), what);
  set_strips(vocabulary, what, made);
  made.chat_template = vocabulary.chat_template;
  return made;
}

GgufVocabulary gguf_vocabulary(const TokenizerDefinition& definition) {
  GgufVocabulary made;
  switch (definition.kind) {
    case TokenizerKind::kByteLevelBpe:
      set_byte_level(definition, made);
      break;
    case TokenizerKind::kBpe:
    case TokenizerKind::kScoredBpe:
      set_sentencepiece(definition, made);
      break;
    case TokenizerKind::kWordPiece:
      made.model = "bert";
      for (const std::string& token : definition.tokens)
        made.tokens.push_back(gguf_name(token, definition.continuing_prefix));
      break;
    case TokenizerKind::kUnigram:
      fail("Unigram tokenizers are not written to GGUF");
  }
  made.types = types_of(definition);
  for (const AddedToken& token : definition.added) {
    if (token.lstrip) made.strips_left.push_back(token.id);
    if (token.rstrip) made.strips_right.push_back(token.id);
  }
  const PostProcessor post = PostProcessor::read(
      definition.post_processor, static_cast<int64_t>(definition.tokens.size()), "the tokenizer");
  made.begin = definition.begin;
  made.end = definition.end;
  made.unknown = definition.unknown;
  made.padding = definition.padding;
  if (definition.kind == TokenizerKind::kWordPiece) {
    if (post.before.size() == 1) made.classifier = post.before[0];
    if (post.after.size() == 1) made.separator = post.after[0];
  } else {
    if (!made.begin && post.before.size() == 1) made.begin = post.before[0];
    if (!made.end && post.after.size() == 1) made.end = post.after[0];
    made.add_begin = !post.before.empty();
    made.add_end = !post.after.empty();
  }
  made.chat_template = definition.chat_template;
  return made;
}

}  // namespace gatewright
