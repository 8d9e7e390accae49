// Any bytes are refused with an Error, or every tensor lies inside them, has the bytes of its shape, and is
// written and read back the same. The first byte says what the input is: a file as it stands, a header in
// front of which the right length is put, or instructions by which a nearly valid header is made.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/formats/safetensors.h"
#include "tests/fuzz/input.h"

namespace gatewright {
namespace {

std::string file_of(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  return file.append(header).append(data);
}

/// A number that is near what would be right, or far from it.
std::string number(Input& input, uint64_t right) {
  const uint8_t kind = input.byte();
  switch (kind % 16) {
    case 0:
      return std::to_string(right + input.byte());
    case 1:
      return "-" + std::to_string(input.byte());
    case 2:
      return std::to_string(uint64_t{1} << input.byte() % 64);
    case 3:
      return std::to_string(~uint64_t{0} - input.byte());
    case 4:
      return std::to_string(right) + ".0";
    case 5:
      return "1e" + std::to_string(input.byte());
    default:
      return std::to_string(right);
  }
}

/// Tensors of one to three dimensions one after another, with a fault now and then.
std::string made_file(Input& input) {
  constexpr std::string_view kTypes[] = {"F64", "F32", "F16", "BF16", "I64", "I32",
                                         "I16", "I8",  "U8",  "BOOL", "F8"};
  constexpr uint64_t kSizes[] = {8, 4, 2, 2, 8, 4, 2, 1, 1, 1, 1};
  std::string header = "{";
  uint64_t end = 0;
  for (uint8_t tensors = input.byte() % 6; tensors > 0; --tensors) {
    if (header.size() > 1) header += ",";
    const size_t type = input.byte() % std::size(kTypes);
    uint64_t size = kSizes[type];
    std::string shape;
    for (uint8_t d = input.byte() % 4; d > 0; --d) {
      const uint64_t dimension = input.byte() % 5;
      size *= dimension;
      shape += (shape.empty() ? "" : ",") + number(input, dimension);
    }
    const uint64_t begin = end;
    end += size;
    header += "\"" + std::to_string(input.byte()) + "\":{\"dtype\":\"" + std::string(kTypes[type]) +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + number(input, begin) + "," +
              number(input, end) + "]}";
    if (input.byte() % 16 == 0) header += input.bytes(input.byte() % 8);
  }
  if (input.byte() % 4 == 0) header += ",\"__metadata__\":{\"a\":\"" + std::to_string(input.byte()) + "\"}";
  return file_of(header + "}", std::string(end + input.byte() % 16 / 15, 'x'));
}

void check(const std::map<std::string, TensorView>& tensors, std::span<const std::byte> file) {
  for (const auto& [name, view] : tensors) {
    if (view.name != name) std::abort();
    int64_t elements = 1;
    for (const int64_t d : view.shape) elements *= d;
    if (static_cast<uint64_t>(elements * block_bytes(view.dtype)) != view.data.size()) std::abort();
    if (!view.data.empty() &&
        (view.data.data() < file.data() || view.data.data() + view.data.size() > file.data() + file.size()))
      std::abort();
    unsigned sum = 0;
    for (const std::byte b : view.data) sum += static_cast<unsigned>(b);
    if (sum > 255 * view.data.size()) std::abort();
  }
}

void run(Input input) {
  const uint8_t kind = input.byte() % 4;
  const std::string file = kind == 0   ? std::string(input.rest())
                           : kind == 1 ? file_of(input.rest(), "")
                                       : made_file(input);
  const auto bytes = std::as_bytes(std::span(file));
  Metadata metadata;
  try {
    const auto tensors = parse_safetensors(bytes, "the input", &metadata);
    check(tensors, bytes);
    std::vector<TensorView> views;
    for (const auto& [name, view] : tensors) views.push_back(view);
    if (safetensors_size(views, metadata) < 8) std::abort();
  } catch (const Error& error) {
    if (!std::string_view(error.what()).starts_with("the input")) std::abort();
  }
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatewright::run(gatewright::Input(data, size));
  return 0;
}
