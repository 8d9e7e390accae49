#include "gatewright/text/byte_alphabet.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace gatewright {
namespace {

TEST(ByteAlphabet, WritesASpaceAsGpt2Does) {
  EXPECT_EQ(to_byte_alphabet(" the\n"), "\u0120the\u010A");
  EXPECT_EQ(to_byte_alphabet("é"), "Ã©");
  EXPECT_EQ(to_byte_alphabet(std::string_view("\0\x7F\xAD", 3)),
            "\u0100\u0121\u0143");  // first, 34th and last
}

TEST(ByteAlphabet, ComesBackForEveryByte) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(from_byte_alphabet(to_byte_alphabet(all)), all);
}

TEST(ByteAlphabet, OrdersEveryByteOnceVisibleOnesFirst) {
  auto order = byte_alphabet_order();
  EXPECT_EQ(order[0], '!');
  EXPECT_EQ(order[188], 0);
  EXPECT_EQ(order[255], 0xAD);
  std::ranges::sort(order);
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(order[i], i);
}

TEST(ByteAlphabet, RefusesOtherCharacters) {
  for (const char* text : {" ", "\n", "\u0144", "日", "\xFF", "a b"})
    EXPECT_EQ(from_byte_alphabet(text), std::nullopt);
}

}  // namespace
}  // namespace gatewright
