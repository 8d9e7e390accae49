#include "gatewright/formats/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <regex>
#include <utility>

#include "gatewright/base/checked.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kMostAlignment = uint64_t{1} << 20;
constexpr uint32_t kMostDimensions = 4;
// Far beyond any model, and small enough that what is kept for each stays small.
constexpr uint64_t kMostKeys = uint64_t{1} << 16, kMostTensors = uint64_t{1} << 16;
constexpr size_t kLongestName = 1024;       // of a tensor; names are searched by patterns
constexpr uint64_t kLeastKeyBytes = 14;     // an empty key would be refused: 8 + 1, type, value of one byte
constexpr uint64_t kLeastTensorBytes = 33;  // name of 8 + 1, number of dimensions, one of them, type, offset

struct TypeId {
  DataType type;
  uint32_t id;
};
constexpr TypeId kTypeIds[] = {
    {DataType::kF32, 0},   {DataType::kF16, 1},     {DataType::kQ4_0, 2},  {DataType::kQ4_1, 3},
    {DataType::kQ5_0, 6},  {DataType::kQ5_1, 7},    {DataType::kQ8_0, 8},  {DataType::kQ2_K, 10},
    {DataType::kQ3_K, 11}, {DataType::kQ4_K, 12},   {DataType::kQ5_K, 13}, {DataType::kQ6_K, 14},
    {DataType::kI8, 24},   {DataType::kIQ4_NL, 20}, {DataType::kI16, 25},  {DataType::kI32, 26},
    {DataType::kI64, 27},  {DataType::kF64, 28},    {DataType::kBF16, 30}, {DataType::kMXFP4, 39}};

/// Takes values off the front of the bytes; every read is checked against what is left.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> bytes, std::string_view what)
      : bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), what_(what) {}

  std::string_view take(uint64_t size, std::string_view part) {
    require(size <= left(), "{} is damaged: {} takes {} bytes, {} are left", what_, part, size, left());
    const std::string_view taken = bytes_.substr(at_, static_cast<size_t>(size));
    at_ += taken.size();
    return taken;
  }
  template <typename T>
  T number(std::string_view part) {
    T value;
    std::memcpy(&value, take(sizeof value, part).data(), sizeof value);
    return value;
  }
  std::string_view string(std::string_view part) { return take(number<uint64_t>(part), part); }
  /// A count of things that take at least `least` bytes each.
  uint64_t count(std::string_view part, uint64_t least) {
    const auto value = number<uint64_t>(part);
    require(value <= left() / least, "{} is damaged: it claims {} {}, but only {} bytes are left", what_,
            value, part, left());
    return value;
  }
  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }
  std::string_view since(uint64_t begin) const {
    return bytes_.substr(static_cast<size_t>(begin), static_cast<size_t>(at_ - begin));
  }

 private:
  std::string_view bytes_, what_;
  size_t at_ = 0;
};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view what, std::shared_ptr<const void> owner)
      : bytes_(bytes), reader_(bytes, what), what_(what), owner_(std::move(owner)) {
    gguf_.metadata = GgufMetadata(std::string(what));
  }

  Gguf parse() {
    check_version();
    const auto tensors = reader_.count("tensors", kLeastTensorBytes);
    require(tensors <= kMostTensors, "{} has {} tensors; at most {} are read", what_, tensors, kMostTensors);
    const auto keys = reader_.count("keys", kLeastKeyBytes);
    require(keys <= kMostKeys, "{} has {} keys; at most {} are read", what_, keys, kMostKeys);
    for (uint64_t i = 0; i < keys; ++i) read_key();
    read_alignment();
    for (uint64_t i = 0; i < tensors; ++i) read_tensor();
    place_tensors();
    return std::move(gguf_);
  }

 private:
  struct Place {
    TensorView* tensor;
    uint64_t offset;
  };

  void check_version() {
    require(reader_.left() >= 24, "{} is not a GGUF file: it has {} bytes, the header alone takes 24", what_,
            reader_.left());
    const std::string_view magic = reader_.take(kMagic.size(), "the magic");
    require(magic == kMagic, "{} is not a GGUF file: it begins with {}, not with \"GGUF\"", what_,
            Quoted{magic});
    const auto version = reader_.number<uint32_t>("the version");
    require((version & 0xFFFF) != 0 || version == 0,
            "{} is a big-endian GGUF file; only little-endian ones are read", what_);
    require(version == 2 || version == 3, "{} is GGUF of version {}; versions 2 and 3 are read", what_,
            version);
  }

  void read_key() {
    const std::string_view key = reader_.string("a key");
    require(!key.empty(), "{} is damaged: a key is empty", what_);
    require(!gguf_.metadata.contains(key), "{} is damaged: the key {} stands twice", what_, Quoted{key});
    GgufType type = read_type(key);
    const bool is_array = type == GgufType::kArray;
    uint64_t size = 1;
    if (is_array) {
      type = read_type(key);
      require(type != GgufType::kArray, "{}: the key {} is an array of arrays, which is not read", what_,
              Quoted{key});
      size = reader_.count("values of an array", type == GgufType::kString ? 8 : gguf_type_bytes(type));
    }
    const uint64_t begin = reader_.at();
    if (type == GgufType::kString)
      for (uint64_t i = 0; i < size; ++i) reader_.string("a string");
    else
      reader_.take(size * gguf_type_bytes(type), "a value");  // cannot wrap: count() compared it
    gguf_.metadata.set(key, GgufValue::view(type, is_array, size, reader_.since(begin), owner_));
  }

  GgufType read_type(std::string_view key) {
    const auto type = reader_.number<uint32_t>("the type of a value");
    require(type <= static_cast<uint32_t>(GgufType::kF64),
            "{}: the key {} has the value type {}; 0 to 12 are known", what_, Quoted{key}, type);
    return static_cast<GgufType>(type);
  }

  void read_alignment() {
    const int64_t alignment = gguf_.metadata.integer_or("general.alignment", 32);
    require(alignment > 0 && alignment <= static_cast<int64_t>(kMostAlignment) &&
                std::has_single_bit(static_cast<uint64_t>(alignment)),
            "{}: general.alignment is {}; a power of two from 1 to {} was expected", what_, alignment,
            kMostAlignment);
    gguf_.alignment = static_cast<uint64_t>(alignment);
  }

  void read_tensor() {
    const std::string name(reader_.string("the name of a tensor"));
    require(!name.empty(), "{} is damaged: the name of a tensor is empty", what_);
    require(name.size() <= kLongestName, "{}: the name of a tensor has {} bytes; at most {} are read", what_,
            name.size(), kLongestName);
    require(!gguf_.tensors.contains(name), "{} is damaged: the tensor {} stands twice", what_, Quoted{name});
    const auto rank = reader_.number<uint32_t>("the number of dimensions");
    require(rank >= 1 && rank <= kMostDimensions, "{}: the tensor {} has {} dimensions; 1 to {} are allowed",
            what_, Quoted{name}, rank, kMostDimensions);
    std::vector<int64_t> shape(rank);
    for (auto d = shape.rbegin(); d != shape.rend(); ++d) {
      const auto dimension = reader_.number<uint64_t>("a dimension");
      require(dimension >= 1 && dimension <= INT64_MAX, "{}: the tensor {} has a dimension of {}", what_,
              Quoted{name}, dimension);
      *d = static_cast<int64_t>(dimension);
    }
    const auto id = reader_.number<uint32_t>("the type of a tensor");
    const std::optional<DataType> type = data_type_of_ggml(id);
    require(type.has_value(), "{}: the tensor {} has the type {} of ggml, which is not read", what_,
            Quoted{name}, id);
    const auto offset = reader_.number<uint64_t>("the offset of a tensor");
    require(offset % gguf_.alignment == 0, "{}: the tensor {} begins at {}, which is no multiple of {}",
            what_, Quoted{name}, offset, gguf_.alignment);
    gguf_.order.push_back(name);
    TensorView& view = gguf_.tensors[name];
    view = {.name = name, .dtype = *type, .shape = std::move(shape), .data = {}};
    places_.push_back({&view, offset});
  }

  void place_tensors() {
    const uint64_t header = reader_.at();
    const uint64_t begin =
        std::min<uint64_t>((header + gguf_.alignment - 1) / gguf_.alignment * gguf_.alignment, bytes_.size());
    const std::span<const std::byte> data = bytes_.subspan(static_cast<size_t>(begin));
    for (const auto& [tensor, offset] : places_) {
      const std::string where = fmt::format("{}: the size of {}", what_, Quoted{tensor->name});
      const auto size = static_cast<uint64_t>(tensor_bytes(tensor->dtype, tensor->shape, where));
      require(offset <= data.size() && size <= data.size() - offset,
              "{}: the tensor {} lies outside the file: it takes {} bytes from {}, the file has {} of data",
              what_, Quoted{tensor->name}, size, offset, data.size());
      tensor->data = data.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
    }
    std::ranges::sort(places_, {}, &Place::offset);
    for (size_t i = 1; i < places_.size(); ++i)
      require(places_[i - 1].offset + places_[i - 1].tensor->data.size() <= places_[i].offset,
              "{}: the tensors {} and {} overlap", what_, Quoted{places_[i - 1].tensor->name},
              Quoted{places_[i].tensor->name});
  }

  std::span<const std::byte> bytes_;
  HeaderReader reader_;
  std::string_view what_;
  std::shared_ptr<const void> owner_;
  Gguf gguf_;
  std::vector<Place> places_;
};

/// NAME, number (from 1) and count of a part's file name.
struct PartName {
  std::string name;
  int number = 0, count = 0;
};
std::optional<PartName> part_name(const std::filesystem::path& path) {
  static const std::regex pattern(R"((.*)-(\d{5})-of-(\d{5})\.gguf)");
  const std::string file = path.filename().string();
  std::smatch found;
  if (!std::regex_match(file, found, pattern)) return std::nullopt;
  return PartName{found[1], std::stoi(found[2]), std::stoi(found[3])};
}

}  // namespace

std::optional<uint32_t> ggml_type_id(DataType type) {
  const auto it = std::ranges::find(kTypeIds, type, &TypeId::type);
  return it == std::end(kTypeIds) ? std::nullopt : std::optional(it->id);
}

std::optional<DataType> data_type_of_ggml(uint32_t id) {
  const auto it = std::ranges::find(kTypeIds, id, &TypeId::id);
  return it == std::end(kTypeIds) ? std::nullopt : std::optional(it->type);
}

bool is_gguf(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string begin(kMagic.size(), '\0');
  in.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return in.gcount() == static_cast<std::streamsize>(kMagic.size()) && begin == kMagic;
}

Gguf parse_gguf(std::span<const std::byte> bytes, std::string_view what, std::shared_ptr<const void> owner) {
  return Parser(bytes, what, std::move(owner)).parse();
}

GgufFile::GgufFile(const std::filesystem::path& path) {
  auto file = std::make_shared<const MappedFile>(path);
  Gguf part = parse_gguf(file->bytes(), path.string(), file);
  const int64_t count = part.metadata.integer_or("split.count", 1);
  if (count <= 1) {
    files_.push_back(std::move(file));
    add(std::move(part), path);
    return;
  }
  const std::optional<PartName> name = part_name(path);
  require(
      name && name->count == count,
      "{} is a part of a model in {} files, but its name does not end in -00001-of-{:05}.gguf, by which the "
      "others are found",
      path.string(), count, count);
  const int64_t tensors = part.metadata.integer("split.tensors.count");
  for (int i = 0; i < name->count; ++i) {
    const std::filesystem::path other =
        path.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", name->name, i + 1, name->count);
    require(std::filesystem::exists(other), "{} is missing: {} is a part of a model in {} files",
            other.string(), path.filename().string(), count);
    auto mapped = std::make_shared<const MappedFile>(other);
    Gguf next = parse_gguf(mapped->bytes(), other.string(), mapped);
    require(next.metadata.integer("split.no") == i && next.metadata.integer("split.count") == count,
            "{} says that it is part {} (from 0) of {}, its name says {} of {}", other.string(),
            next.metadata.integer("split.no"), next.metadata.integer("split.count"), i, count);
    files_.push_back(std::move(mapped));
    add(std::move(next), other);
  }
  require(std::cmp_equal(tensors_.size(), tensors), "{}: the parts have {} tensors together, the key says {}",
          path.string(), tensors_.size(), tensors);
}

void GgufFile::add(Gguf part, const std::filesystem::path& path) {
  if (paths_.empty()) {
    metadata_ = std::move(part.metadata);
    for (const char* key : {"split.no", "split.count", "split.tensors.count"}) metadata_.erase(key);
    alignment_ = part.alignment;
  }
  for (std::string& name : part.order) {
    require(tensors_.emplace(name, std::move(part.tensors[name])).second,
            "{}: the tensor {} is in another part, too", path.string(), Quoted{name});
    order_.push_back(std::move(name));
  }
  paths_.push_back(path);
}

const TensorView& GgufFile::tensor(const std::string& name) const {
  const auto it = tensors_.find(name);
  require(it != tensors_.end(), "{} has no tensor {}", paths_.front().string(), Quoted{name});
  return it->second;
}

uint64_t GgufFile::file_bytes() const {
  uint64_t bytes = 0;
  for (const auto& file : files_) bytes += file->size();
  return bytes;
}

void GgufFile::release(std::span<const std::byte> bytes) const {
  for (const auto& file : files_) file->release(bytes);
}

}  // namespace gatewright
