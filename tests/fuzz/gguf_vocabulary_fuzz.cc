// The vocabulary of a GGUF file, whatever its keys hold, is refused with an Error or gives a tokenizer that
// encodes, decodes and comes back through tokenizer.json.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/gguf_vocabulary.h"
#include "gatewright/text/split_patterns.h"
#include "gatewright/text/tokenizer.h"
#include "gatewright/text/tokenizer_model.h"
#include "tests/fuzz/input.h"

namespace gatewright {
namespace {

std::string text_of(Input& input) {
  const uint8_t length = input.byte();
  const std::string_view bytes = input.bytes(length % 8);
  if (length & 0x80) return to_byte_alphabet(bytes);
  if (length & 0x40) return "\u2581" + to_byte_alphabet(bytes);
  return std::string(bytes);
}

std::optional<int64_t> id_of(Input& input) {
  const uint8_t kind = input.byte();
  if (kind % 4 == 0) return kind % 8 ? -int64_t{input.byte()} : int64_t{1} << input.byte() % 63;
  return kind % 4 == 1 ? std::optional<int64_t>(input.byte()) : std::nullopt;
}

GgufVocabulary vocabulary_of(Input& input) {
  GgufVocabulary v;
  const uint8_t kind = input.byte();
  v.model = kind % 4 == 0 ? "gpt2" : kind % 4 == 1 ? "llama" : kind % 4 == 2 ? "bert" : text_of(input);
  const std::vector<std::string_view> names = pre_tokenizer_names();
  if (input.byte() % 4) v.pre = names[input.byte() % names.size()];
  const bool bytes = input.byte() % 2;
  for (int byte = 0; bytes && byte < 256; ++byte)
    v.tokens.push_back(v.model == "gpt2" ? to_byte_alphabet(std::string(1, static_cast<char>(byte)))
                                         : name_of_byte(static_cast<uint8_t>(byte)));
  v.types.assign(v.tokens.size(), v.model == "gpt2" ? 1 : 6);
  for (uint8_t left = input.byte() % 24; left > 0; --left) {
    v.tokens.push_back(text_of(input));
    const uint8_t type = input.byte();
    v.types.push_back(type % 4 ? 1 : type % 9);
  }
  if (input.byte() % 8 == 0) v.types.resize(input.byte());
  for (size_t i = 0; i < v.tokens.size(); ++i) v.scores.push_back(input.byte());
  if (input.byte() % 8 == 0) v.scores.resize(input.byte());
  for (uint8_t left = input.byte() % 16; left > 0; --left)
    v.merges.push_back(text_of(input) + " " + text_of(input));
  v.begin = id_of(input);
  v.end = id_of(input);
  v.unknown = id_of(input);
  v.padding = id_of(input);
  v.separator = id_of(input);
  v.classifier = id_of(input);
  const uint8_t flags = input.byte();
  if (flags & 1) v.add_begin = (flags & 2) != 0;
  if (flags & 4) v.add_space_prefix = (flags & 8) != 0;
  return v;
}

void run(Input input) {
  std::optional<Tokenizer> tokenizer;
  try {
    tokenizer.emplace(definition_of(vocabulary_of(input), "the input"), "the input");
  } catch (const Error& error) {
    if (std::string_view(error.what()).substr(0, 9) != "the input") std::abort();
    return;
  }
  const std::string_view text = input.rest();
  const std::vector<int32_t> ids = tokenizer->encode(text, {.parse_special = true, .add_special = true});
  if (tokenizer->lossless() && tokenizer->decode(tokenizer->encode(text)) != text) std::abort();
  tokenizer->decode(ids);
  tokenizer->to_json();
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatewright::run(gatewright::Input(data, size));
  return 0;
}
