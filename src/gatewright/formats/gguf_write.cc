#include <algorithm>
#include <bit>
#include <set>

#include "gatewright/base/checked.h"
#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/formats/gguf.h"

namespace gatewright {
namespace {

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

uint64_t padded(uint64_t size, uint64_t alignment, std::string_view what) {
  return checked_add(size, alignment - 1, what) / alignment * alignment;
}

uint64_t alignment_of(const GgufMetadata& metadata) {
  const int64_t alignment = metadata.integer_or("general.alignment", 32);
  require(alignment > 0 && alignment <= 1 << 20 && std::has_single_bit(static_cast<uint64_t>(alignment)),
          "general.alignment is {}; a power of two from 1 to 1048576 was expected", alignment);
  return static_cast<uint64_t>(alignment);
}

void append_metadata(std::string& out, const GgufMetadata& metadata) {
  for (const std::string& key : metadata.keys()) {
    require(!key.empty(), "a key of GGUF can't be empty");
    const GgufValue& value = *metadata.find(key);
    append_gguf_string(out, key);
    if (value.is_array()) append(out, GgufType::kArray);
    append(out, value.type());
    if (value.is_array()) append(out, value.size());
    out.append(value.encoded());
  }
}

void check_tensor(const TensorPlan& tensor) {
  const Quoted name{tensor.name};
  require(!tensor.name.empty(), "a tensor of GGUF must have a name");
  require(ggml_type_id(tensor.dtype).has_value(), "{} can't be saved: GGUF has no type {}", name,
          data_type_name(tensor.dtype));
  require(!tensor.shape.empty() && tensor.shape.size() <= 4 &&
              std::ranges::all_of(tensor.shape, [](int64_t d) { return d > 0; }),
          "{} can't be saved: GGUF holds one to four dimensions of at least 1, it has [{}]", name,
          fmt::join(tensor.shape, ", "));
}

struct Layout {
  std::string header;  // with padding
  uint64_t alignment = 0, size = 0;
};

Layout layout_of(const GgufMetadata& metadata, std::span<const TensorPlan> tensors) {
  Layout layout{.header = "GGUF", .alignment = alignment_of(metadata)};
  append(layout.header, uint32_t{3});
  append(layout.header, static_cast<uint64_t>(tensors.size()));
  append(layout.header, static_cast<uint64_t>(metadata.keys().size()));
  append_metadata(layout.header, metadata);
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const TensorPlan& tensor : tensors) {
    check_tensor(tensor);
    require(names.insert(tensor.name).second, "two tensors can't both be saved as {}", Quoted{tensor.name});
    append_gguf_string(layout.header, tensor.name);
    append(layout.header, static_cast<uint32_t>(tensor.shape.size()));
    for (auto d = tensor.shape.rbegin(); d != tensor.shape.rend(); ++d)
      append(layout.header, static_cast<uint64_t>(*d));
    append(layout.header, *ggml_type_id(tensor.dtype));
    append(layout.header, offset);
    const auto size = static_cast<uint64_t>(tensor_bytes(tensor.dtype, tensor.shape, tensor.name));
    offset = checked_add(offset, padded(size, layout.alignment, tensor.name), tensor.name);
  }
  layout.header.resize(static_cast<size_t>(padded(layout.header.size(), layout.alignment, "the header")),
                       '\0');
  layout.size = checked_add<uint64_t>(layout.header.size(), offset, "the file");
  return layout;
}

}  // namespace

uint64_t gguf_size(const GgufMetadata& metadata, std::span<const TensorPlan> tensors) {
  return layout_of(metadata, tensors).size;
}

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                std::span<const TensorPlan> tensors) {
  const Layout layout = layout_of(metadata, tensors);
  check_room(path.has_parent_path() ? path.parent_path() : ".", layout.size, layout.size);
  AtomicFile file(path);
  file.write(layout.header);
  for (const TensorPlan& tensor : tensors) {
    write_tensor(tensor, [&](std::span<const std::byte> bytes) { file.write(bytes); });
    const uint64_t end = file.written();
    file.write(std::string(static_cast<size_t>(padded(end, layout.alignment, "the file") - end), '\0'));
  }
  file.commit();
}

}  // namespace gatewright
