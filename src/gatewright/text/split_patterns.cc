#include "gatewright/text/split_patterns.h"

#include <string>

namespace gatewright {
namespace {

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt2Grouped =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt2Possessive =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s)";
constexpr std::string_view kCl100k =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Letters of scripts that have case. By their numbers: normalising editors would change some of them.
constexpr std::string_view kDeepseekLetters =
    "\\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF"
    "\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5"
    "\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA"
    "\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45"
    "\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE"
    "\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102"
    "\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139"
    "\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3"
    "\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06"
    "\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3"
    "\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF"
    "\U0001E900-\U0001E943]+";
constexpr std::string_view kDeepseekIdeographs = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json split(std::string_view regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}
Json digits(bool individual) { return {{"type", "Digits"}, {"individual_digits", individual}}; }
Json byte_level(bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}
Json sequence(Json parts) { return {{"type", "Sequence"}, {"pretokenizers", std::move(parts)}}; }
Json splits(std::initializer_list<std::string_view> patterns) {
  Json parts = Json::array();
  for (const std::string_view pattern : patterns) parts.push_back(split(pattern));
  parts.push_back(byte_level(false));
  return sequence(std::move(parts));
}

struct Named {
  std::vector<std::string_view> names;  // the first is the one that is written
  PreTokenizerFamily family;
};

std::vector<Named> make_families() {
  std::vector<Named> all;
  all.push_back(
      {{"gpt-2", "gpt2", "mpt", "olmo", "phi-2", "jais", "jina-es", "jina-de", "jina-en", "roberta-bpe"},
       {.pre_tokenizer = byte_level(true)}});
  all.push_back({{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
                 {.pre_tokenizer = sequence({digits(true), byte_level(true)})}});
  all.push_back({{"llama-bpe", "llama3", "llama-v3", "falcon3"},
                 {.pre_tokenizer = splits({kCl100k}), .ignore_merges = true, .adds_begin = true}});
  all.push_back({{"dbrx", "smaug-bpe", "smaug", "dolma2", "chatglm-bpe", "glm4", "olmo2"},
                 {.pre_tokenizer = splits({kCl100k})}});
  all.push_back({{"qwen2", "deepseek-r1-qwen", "megrez"}, {.pre_tokenizer = splits({kQwen2}), .nfc = true}});
  all.push_back({{"stablelm2", "hunyuan"}, {.pre_tokenizer = splits({kQwen2})}});
  all.push_back({{"deepseek-v3", "deepseek-v3.1", "hunyuan-dense"},
                 {.pre_tokenizer = splits({"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", kDeepseek3Words})}});
  all.push_back({{"deepseek-coder"},
                 {.pre_tokenizer =
                      splits({"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepseekIdeographs, R"(\p{N})"})}});
  all.push_back({{"deepseek-llm"},
                 {.pre_tokenizer = splits({"[\r\n]", kDeepseekLetters, R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
                                           R"(\s+$)", kDeepseekIdeographs, R"(\p{N}+)"})}});
  all.push_back({{"gpt-4o", "llama4"}, {.pre_tokenizer = splits({kGpt4o})}});
  all.push_back(
      {{"falcon"}, {.pre_tokenizer = splits({R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, "[0-9][0-9][0-9]"})}});
  all.push_back(
      {{"default"},
       {.pre_tokenizer = splits({R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"})}});
  return all;
}

const std::vector<Named>& families() {
  static const std::vector<Named> all = make_families();
  return all;
}

}  // namespace

std::optional<PreTokenizerFamily> pre_tokenizer_family(std::string_view name) {
  for (const Named& entry : families())
    for (const std::string_view known : entry.names)
      if (known == name) return entry.family;
  return std::nullopt;
}

std::vector<std::string_view> pre_tokenizer_names() {
  std::vector<std::string_view> names;
  for (const Named& entry : families()) names.insert(names.end(), entry.names.begin(), entry.names.end());
  return names;
}

std::string_view name_of_pre_tokenizer(const Json& pre_tokenizer, bool ignore_merges) {
  for (const Named& entry : families())
    if (entry.family.pre_tokenizer == pre_tokenizer && entry.family.ignore_merges == ignore_merges)
      return entry.names.front();
  return "";
}

KnownPattern known_pattern(std::string_view regex) {
  if (regex == kGpt2 || regex == kGpt2Grouped || regex == kGpt2Possessive) return KnownPattern::kGpt2;
  if (regex == kCl100k) return KnownPattern::kCl100k;
  if (regex == kQwen2) return KnownPattern::kQwen2;
  return KnownPattern::kNone;
}

}  // namespace gatewright
