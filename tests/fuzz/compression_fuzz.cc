// Unpacking of any bytes ends in text within the limit or in an error. The first byte says what they are: as
// they come, or packed here and then (perhaps) damaged at one place, so that the fuzzer needs no seeds to get
// deep.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/formats/compression.h"
#include "tests/compressed_text.h"

namespace {

constexpr size_t kLimit = size_t{1} << 20;

/// True when it came out whole.
bool unpacks(std::string_view packed, std::string& out) {
  try {
    out = gatewright::decompress(packed, "input", kLimit);
  } catch (const gatewright::Error&) {
    return false;
  }
  if (out.size() > kLimit) std::abort();
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 4, size - 4);
  std::string out;
  if (data[0] % 4 == 0) {
    unpacks(text, out);
    return 0;
  }
  std::string packed = data[0] % 2 == 0 ? gatewright::gzip(text) : gatewright::zstd(text);
  if (!unpacks(packed, out) || out != text) std::abort();
  const size_t place = (data[1] + size_t{256} * data[2]) % packed.size();
  if (data[0] % 4 == 3)
    packed.resize(place);
  else
    packed[place] = static_cast<char>(data[3]);
  unpacks(packed, out);
  return 0;
}
