// Unpacking of any bytes ends in text within the limit or in an error. The first byte says what they are: as
// they come, or packed here and then (perhaps) damaged at one place, so that the fuzzer needs no seeds to get
// deep.
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/formats/compression.h"

namespace {

constexpr size_t kLimit = size_t{1} << 20;

std::string gzip(std::string_view text) {
  z_stream stream = {};
  if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) std::abort();
  std::string out(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) std::abort();
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

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
  std::string packed = data[0] % 2 == 0 ? gzip(text) : zstd(text);
  if (!unpacks(packed, out) || out != text) std::abort();
  const size_t place = (data[1] + size_t{256} * data[2]) % packed.size();
  if (data[0] % 4 == 3)
    packed.resize(place);
  else
    packed[place] = static_cast<char>(data[3]);
  unpacks(packed, out);
  return 0;
}
