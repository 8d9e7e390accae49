#include "gatewright/formats/compression.h"

#include <gmock/gmock.h>

#include "gatewright/base/error.h"
#include "gatewright/base/random.h"
#include "tests/compressed_text.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

constexpr size_t kLimit = size_t{1} << 24;

/// Words and runs, so that both formats find something to do; about 3 bytes a step.
std::string some_text(size_t steps, uint64_t seed) {
  RandomStream random(seed, "text");
  std::string text;
  for (size_t i = 0; i < steps; ++i)
    text += std::string(1 + random.below(5), static_cast<char>(random.below(256)));
  return text;
}

std::string error_of(std::string_view bytes, size_t limit = kLimit) {
  try {
    decompress(bytes, "file.x", limit);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Compression, IsDetectedByTheFirstBytes) {
  EXPECT_EQ(detect_compression(gzip("a")), Compression::kGzip);
  EXPECT_EQ(detect_compression(zstd("a")), Compression::kZstd);
  EXPECT_EQ(detect_compression("plain"), Compression::kNone);
  EXPECT_EQ(detect_compression(""), Compression::kNone);
  EXPECT_EQ(detect_compression("\x1f"), Compression::kNone);
}

TEST(Compression, GivesBackWhatWasPacked) {
  for (const size_t steps : {0, 1, 100, 30'000, 200'000}) {
    const std::string text = some_text(steps, steps);
    EXPECT_EQ(decompress(gzip(text), "x", kLimit), text) << steps;
    EXPECT_EQ(decompress(zstd(text), "x", kLimit), text) << steps;
  }
  EXPECT_EQ(decompress("as it is", "x", kLimit), "as it is");
}

TEST(Compression, MembersAndFramesFollowOneAnother) {
  EXPECT_EQ(decompress(gzip("one ") + gzip("") + gzip("two"), "x", kLimit), "one two");
  EXPECT_EQ(decompress(zstd("one ") + zstd("") + zstd("two"), "x", kLimit), "one two");
}

TEST(Compression, CutOffAnywhereIsAnError) {
  const std::string text = some_text(300, 1);
  for (const std::string& packed : {gzip(text), zstd(text)})
    for (size_t size = 4; size < packed.size(); ++size)
      EXPECT_THAT(error_of(std::string_view(packed).substr(0, size)), HasSubstr("file.x is cut off")) << size;
}

TEST(Compression, DamageIsAnErrorOrHarmlessButNeverACrash) {
  const std::string text = some_text(200, 2);
  for (const std::string& packed : {gzip(text), zstd(text)}) {
    for (size_t i = 4; i < packed.size(); ++i) {
      std::string changed = packed;
      changed[i] = static_cast<char>(changed[i] ^ 0x55);
      try {
        EXPECT_LE(decompress(changed, "x", kLimit).size(), kLimit);
      } catch (const Error&) {
      }
    }
  }
  // gzip has a checksum of the content.
  std::string changed = gzip(text);
  changed[changed.size() - 6] ^= 1;
  EXPECT_THAT(error_of(changed), HasSubstr("file.x is not a sound gzip file"));
  EXPECT_THAT(error_of(gzip(text) + "garbage"), HasSubstr("file.x is not a sound gzip file"));
  EXPECT_THAT(error_of(zstd(text) + "garbage"), HasSubstr("file.x is not a sound zstd file"));
}

TEST(Compression, ABombIsStoppedAtTheLimit) {
  const std::string zeros(50'000'000, '\0');
  const std::string in_gzip = gzip(zeros), in_zstd = zstd(zeros);
  EXPECT_LT(in_gzip.size(), 100'000U);
  EXPECT_LT(in_zstd.size(), 10'000U);
  EXPECT_EQ(error_of(in_gzip), "file.x unpacks to more than the 16 MB allowed for one file");
  EXPECT_EQ(error_of(in_zstd), "file.x unpacks to more than the 16 MB allowed for one file");
  EXPECT_EQ(error_of(zeros), "file.x is larger than the 16 MB allowed for one file");
}

TEST(Compression, TheLimitItselfIsAllowed) {
  const std::string text(1000, 'x');
  EXPECT_EQ(decompress(gzip(text), "x", 1000), text);
  EXPECT_EQ(decompress(zstd(text), "x", 1000), text);
  EXPECT_THAT(error_of(gzip(text), 999), HasSubstr("unpacks to more than"));
  EXPECT_THAT(error_of(zstd(text), 999), HasSubstr("unpacks to more than"));
}

}  // namespace
}  // namespace gatewright
