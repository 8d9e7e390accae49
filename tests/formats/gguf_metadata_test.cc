#include "gatewright/formats/gguf_metadata.h"

#include <gmock/gmock.h>

#include "tests/formats/gguf_parsing.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(GgufMetadata, ValuesAreReadByTheirTypeOrRefused) {
  GgufMetadata m("model.gguf");
  m.set("flag", true);
  m.set("small", uint8_t{200});
  m.set("negative", int32_t{-7});
  m.set("huge", ~uint64_t{0});
  m.set("float", 0.5F);
  m.set("double", 0.1);
  m.set("text", "a\nb");
  m.set("list", std::vector<uint32_t>{1, 2, 4000000000});
  m.set("floats", std::vector<float>{0.25F, -1});
  m.set("texts", std::vector<std::string>{"x", ""});
  EXPECT_TRUE(m.flag("flag"));
  EXPECT_EQ(m.integer("small"), 200);
  EXPECT_EQ(m.integer("negative"), -7);
  EXPECT_EQ(m.number("float"), 0.5);
  EXPECT_EQ(m.number("double"), 0.1);
  EXPECT_EQ(m.text("text"), "a\nb");
  EXPECT_THAT(m.integers("list"), ElementsAre(1, 2, 4000000000));
  EXPECT_THAT(m.numbers("floats"), ElementsAre(0.25, -1));
  EXPECT_THAT(m.texts("texts"), ElementsAre("x", ""));
  EXPECT_THAT(m.integers("negative"), ElementsAre(-7)) << "one value where a list may stand";
  EXPECT_EQ(m.integer_or("absent", 3), 3);
  EXPECT_EQ(m.text_or("absent", "t"), "t");
  EXPECT_EQ(m.number_or("absent", 1.5), 1.5);
  EXPECT_FALSE(m.flag_or("absent", false));

  EXPECT_EQ(error_of([&] { m.integer("absent"); }), "model.gguf has no key \"absent\"");
  EXPECT_EQ(
      error_of([&] { m.integer("list"); }),
      "model.gguf: the key \"list\" holds a value of type array of 3 values of type u32; an integer (at most "
      "63 bits) was expected");
  for (const char* key : {"flag", "float", "text", "huge"}) {
    EXPECT_THAT(error_of([&] { m.integer(key); }), HasSubstr(key));
    EXPECT_THAT(error_of([&] { m.integer_or(key, 1); }), HasSubstr(key));
    EXPECT_THAT(error_of([&] { m.integers(key); }), HasSubstr(key));
  }
  for (const char* key : {"flag", "small", "text", "floats"}) error_of([&] { m.number(key); });
  for (const char* key : {"small", "list", "text"}) error_of([&] { m.numbers(key); });
  for (const char* key : {"small", "float", "texts"}) error_of([&] { m.text(key); });
  for (const char* key : {"small", "float", "texts"}) error_of([&] { m.flag(key); });
  for (const char* key : {"small", "floats"}) error_of([&] { m.texts(key); });
}

TEST(GgufMetadata, IntegersOfEveryWidthAreRead) {
  GgufMetadata m;
  m.set("u8", uint8_t{255});
  m.set("i8", int8_t{-128});
  m.set("u16", uint16_t{65535});
  m.set("i16", int16_t{-32768});
  m.set("u32", ~uint32_t{0});
  m.set("i32", INT32_MIN);
  m.set("u64", uint64_t{INT64_MAX});
  m.set("i64", INT64_MIN);
  const std::map<std::string, int64_t> values = {{"u8", 255},        {"i8", -128},        {"u16", 65535},
                                                 {"i16", -32768},    {"u32", 4294967295}, {"i32", INT32_MIN},
                                                 {"u64", INT64_MAX}, {"i64", INT64_MIN}};
  for (const auto& [key, value] : values) {
    EXPECT_EQ(m.integer(key), value);
    EXPECT_EQ(gguf_type_name(m.find(key)->type()), key);
  }
  m.set("flags", raw(uint8_t{1}).c_str());
  EXPECT_THAT(error_of([&] { m.flags("flags"); }), HasSubstr("an array of bools"));
  m.set("one flag", true);
  EXPECT_THAT(m.flags("one flag"), ElementsAre(true));
}

TEST(GgufMetadata, ValuesAreEqualWhenTypeAndBytesAre) {
  EXPECT_EQ(GgufValue(5), GgufValue(int32_t{5}));
  EXPECT_FALSE(GgufValue(5) == GgufValue(uint32_t{5}));
  EXPECT_FALSE(GgufValue(5) == GgufValue(6));
  EXPECT_FALSE(GgufValue(5) == GgufValue(std::vector<int32_t>{5}));
  EXPECT_EQ(GgufValue("a"), GgufValue(std::string("a")));
}

TEST(GgufMetadata, KeysKeepTheirPlaceWhenTheyAreSetAgain) {
  GgufMetadata m;
  m.set("a", 1);
  m.set("b", 2);
  m.set("a", "text");
  EXPECT_THAT(m.keys(), ElementsAre("a", "b"));
  EXPECT_EQ(m.text("a"), "text");
  m.erase("a");
  m.erase("absent");
  EXPECT_THAT(m.keys(), ElementsAre("b"));
  EXPECT_EQ(m.find("a"), nullptr);
}

TEST(GgufMetadata, BytesReadAsNumbersAreRefused) {
  MadeGguf made = small_gguf();
  made.keys.push_back(array_key("tokenizer.ggml.scores", 0, 8, "12345678"));
  const std::string file = made.bytes();
  const Gguf gguf = parse(file);
  EXPECT_EQ(
      error_of([&] { gguf.metadata.numbers("tokenizer.ggml.scores"); }),
      "model.gguf: the key \"tokenizer.ggml.scores\" holds a value of type array of 8 values of type u8; an "
      "array of f32 or f64 was expected");
  EXPECT_EQ(gguf.metadata.integers("tokenizer.ggml.scores").size(), 8u);
}

TEST(GgufMetadata, AFlagOfSevenIsNone) {
  MadeGguf made = small_gguf();
  made.keys.push_back(raw_key("flag", 7, "\x07"));
  made.keys.push_back(array_key("flags", 7, 2, "\x01\x07"));
  const std::string file = made.bytes();
  const Gguf gguf = parse(file);
  EXPECT_THAT(error_of([&] { gguf.metadata.flag("flag"); }), HasSubstr("\"flag\""));
  EXPECT_THAT(error_of([&] { gguf.metadata.flags("flags"); }), HasSubstr("\"flags\""));
}

}  // namespace
}  // namespace gatewright
