// Any tokenizer.json is refused with an Error or gives a tokenizer that encodes and decodes any text, without
// loss when it says so. The first byte of the input says what it is: JSON as it stands, or edits of a valid
// file, which reach deeper.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/tokenizer.h"
#include "tests/fuzz/input.h"

namespace gatewright {
namespace {

Json valid_file() {
  Json vocab = Json::object(), merges = Json::array();
  for (const uint8_t byte : byte_alphabet_order())
    vocab[to_byte_alphabet(std::string(1, static_cast<char>(byte)))] = vocab.size();
  for (const auto& [left, right] :
       {std::pair("a", "a"), {"aa", "a"}, {"aa", "aa"}, {"Ġ", "a"}, {"Ã", "©"}, {"Ġa", "b"}}) {
    vocab[std::string(left) + right] = vocab.size();
    merges.push_back(std::string(left) + " " + right);
  }
  const Json end = {{"id", vocab.size()}, {"content", "<|endoftext|>"}, {"special", true}};
  return {{"added_tokens", Json::array({end})},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

/// Valid UTF-8: any bytes in the byte alphabet, or printable ASCII.
std::string text_of(Input& input) {
  const uint8_t length = input.byte();
  const std::string_view bytes = input.bytes(length % 16);
  if (length & 0x80) return to_byte_alphabet(bytes);
  std::string text;
  for (const char c : bytes) text += static_cast<char>(32 + static_cast<uint8_t>(c) % 95);
  return text;
}

Json value_of(Input& input) {
  switch (input.byte() % 9) {
    case 0:
      return nullptr;
    case 1:
      return (input.byte() & 1) != 0;
    case 2:
      return input.byte();
    case 3:
      return 256 + input.byte() % 16;
    case 4:
      return -int64_t{input.byte()};
    case 5:
      return uint64_t{1} << input.byte() % 64;
    case 6:
      return text_of(input);
    case 7: {
      const std::string left = text_of(input);
      return left + " " + text_of(input);
    }
    default:
      return Json::array({text_of(input), text_of(input)});
  }
}

/// Goes down from the root by the input's bytes, then replaces, removes or adds there.
void edit(Json& file, Input& input) {
  Json* at = &file;
  for (uint8_t depth = input.byte() % 5; depth > 0 && at->is_structured() && !at->empty(); --depth) {
    size_t step = input.byte();
    if (at->size() > 255) step = step * 256 + input.byte();
    auto child = at->begin();
    std::advance(child, static_cast<std::ptrdiff_t>(step % at->size()));
    if (depth == 1 && input.byte() % 4 == 0) {
      at->erase(child);
      return;
    }
    at = &*child;
  }
  if (at->is_object())
    (*at)[text_of(input)] = value_of(input);
  else if (at->is_array())
    at->push_back(value_of(input));
  else
    *at = value_of(input);
}

void check(const Tokenizer& tokenizer, std::string_view text, bool reread) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  const std::string back = tokenizer.decode(ids);
  if (tokenizer.lossless() && back != text) std::abort();
  tokenizer.encode(text, {.parse_special = true, .add_special = true});
  if (!reread) return;
  const std::string written = tokenizer.to_json();
  const Tokenizer again = Tokenizer::parse(written, "what we wrote");
  if (again.to_json() != written || again.encode(text) != ids) std::abort();
}

void run(Input input) {
  const uint8_t kind = input.byte();
  std::string json;
  if (kind % 4 == 0) {
    json = input.rest();
  } else {
    static const Json valid = valid_file();
    Json file = valid;
    for (uint8_t edits = input.byte() % 8; edits > 0; --edits) edit(file, input);
    json = file.dump();
  }
  std::optional<Tokenizer> tokenizer;
  try {
    tokenizer = Tokenizer::parse(json, "the input");
  } catch (const Error& error) {
    if (std::string_view(error.what()).substr(0, 9) != "the input") std::abort();
    return;
  }
  try {
    check(*tokenizer, input.rest(), kind % 32 == 1);
  } catch (const Error&) {
    // A pattern that takes too many steps, a normaliser that makes too much of the text.
  }
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatewright::run(gatewright::Input(data, size));
  return 0;
}
