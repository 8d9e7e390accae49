// Any bytes are refused as a SentencePiece model with an Error or give a tokenizer that encodes and decodes.
// The first byte says what the input is: a model as it stands, or pieces and settings, which reach deeper.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/text/sentencepiece_model.h"
#include "gatewright/text/tokenizer.h"
#include "tests/fuzz/input.h"
#include "tests/text/sentencepiece_bytes.h"

namespace gatewright {
namespace {

std::string text_of(Input& input) {
  std::string text;
  for (uint8_t left = input.byte() % 6; left > 0; --left) {
    const uint8_t kind = input.byte();
    if (kind % 4 == 0)
      text += "\u2581";
    else if (kind % 16 == 1)
      text += static_cast<char>(kind);
    else
      text += static_cast<char>('a' + kind % 5);
  }
  return text;
}

std::string model_of(Input& input) {
  std::string bytes = input.byte() % 2 ? small_sentencepiece_model(1 + input.byte() % 3) : std::string();
  if (input.byte() % 4 == 0)
    for (int byte = 0; byte < 256; ++byte) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      bytes += piece({'<', '0', 'x', kDigits[static_cast<size_t>(byte) / 16],
                      kDigits[static_cast<size_t>(byte) % 16], '>'},
                     0, 6);
    }
  for (uint8_t left = input.byte() % 32; left > 0; --left) {
    const std::string text = text_of(input);
    bytes +=
        piece(text, static_cast<float>(input.byte()) - 100, input.byte() % 16 == 0 ? input.byte() % 8 : 1);
  }
  const uint8_t settings = input.byte();
  if (settings & 1) bytes += field(2, varint_field(3, input.byte() % 4) + varint_field(41, input.byte()));
  if (settings & 2) bytes += field(3, varint_field(3, input.byte() % 2) + varint_field(4, input.byte() % 2));
  if (settings & 4) bytes += field(3, field(2, std::string(input.bytes(input.byte()))));
  return bytes;
}

void run(Input input) {
  const std::string bytes =
      input.byte() % 4 == 0 ? std::string(input.bytes(input.byte() * 8)) : model_of(input);
  std::optional<Tokenizer> tokenizer;
  try {
    tokenizer.emplace(read_sentencepiece_model(bytes, "the input"), "the input");
  } catch (const Error& error) {
    if (std::string_view(error.what()).substr(0, 9) != "the input") std::abort();
    return;
  }
  try {
    const std::string_view text = input.rest();
    tokenizer->decode(tokenizer->encode(text));
    tokenizer->encode(text, {.parse_special = true, .add_special = true});
  } catch (const Error&) {
    // A normaliser that makes too much of the text.
  }
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatewright::run(gatewright::Input(data, size));
  return 0;
}
