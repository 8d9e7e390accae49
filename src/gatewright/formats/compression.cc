#include "gatewright/formats/compression.h"

#include <zlib.h>
#include <zstd.h>

#include <memory>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

constexpr size_t kChunk = 1 << 16;

void append(std::string& out, const char* data, size_t size, std::string_view what, size_t limit) {
  require(out.size() + size <= limit, "{} unpacks to more than the {} MB allowed for one file", what,
          limit >> 20);
  out.append(data, size);
}

std::string gunzip(std::string_view bytes, std::string_view what, size_t limit) {
  z_stream stream = {};
  constexpr int kGzipOnly = 15 + 16;
  require(inflateInit2(&stream, kGzipOnly) == Z_OK, "{}: no memory to unpack", what);
  const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, inflateEnd);
  std::string out;
  char chunk[kChunk];
  size_t fed = 0;
  int status = Z_OK;
  while (true) {
    if (stream.avail_in == 0 && fed < bytes.size()) {
      const size_t piece = std::min<size_t>(bytes.size() - fed, size_t{1} << 30);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + fed));
      stream.avail_in = static_cast<uInt>(piece);
      fed += piece;
    }
    stream.next_out = reinterpret_cast<Bytef*>(chunk);
    stream.avail_out = kChunk;
    status = inflate(&stream, Z_NO_FLUSH);
    require(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR, "{} is not a sound gzip file",
            what);
    append(out, chunk, kChunk - stream.avail_out, what, limit);
    const bool all_fed = stream.avail_in == 0 && fed == bytes.size();
    if (status == Z_STREAM_END) {
      if (all_fed) return out;
      require(inflateReset(&stream) == Z_OK, "{} is not a sound gzip file", what);
    } else if (all_fed && stream.avail_out != 0) {
      fail("{} is cut off: the gzip data ends too early", what);
    }
  }
}

std::string unzstd(std::string_view bytes, std::string_view what, size_t limit) {
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(),
                                                                        ZSTD_freeDStream);
  require(stream != nullptr, "{}: no memory to unpack", what);
  ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, 27);
  std::string out;
  char chunk[kChunk];
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  size_t left = 1;
  while (in.pos < in.size || left != 0) {
    ZSTD_outBuffer piece{chunk, kChunk, 0};
    const size_t before = in.pos;
    left = ZSTD_decompressStream(stream.get(), &piece, &in);
    require(!ZSTD_isError(left), "{} is not a sound zstd file: {}", what, ZSTD_getErrorName(left));
    append(out, chunk, piece.pos, what, limit);
    require(in.pos != before || piece.pos != 0 || left == 0, "{} is cut off: the zstd data ends too early",
            what);
  }
  return out;
}

}  // namespace

Compression detect_compression(std::string_view bytes) {
  if (bytes.starts_with("\x1f\x8b")) return Compression::kGzip;
  if (bytes.starts_with("\x28\xb5\x2f\xfd")) return Compression::kZstd;
  return Compression::kNone;
}

std::string decompress(std::string_view bytes, std::string_view what, size_t limit) {
  switch (detect_compression(bytes)) {
    case Compression::kGzip:
      return gunzip(bytes, what, limit);
    case Compression::kZstd:
      return unzstd(bytes, what, limit);
    case Compression::kNone:
      break;
  }
  require(bytes.size() <= limit, "{} is larger than the {} MB allowed for one file", what, limit >> 20);
  return std::string(bytes);
}

}  // namespace gatewright
