#include "gatewright/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "gatewright/base/checked.h"
#include "gatewright/base/json.h"

namespace gatewright {
namespace {

constexpr uint64_t kPrefix = 8;
constexpr uint64_t kLargestHeader = 100'000'000;
constexpr size_t kMostDimensions = 16;

struct TypeInfo {
  std::string_view name;
  int64_t size;
};
constexpr TypeInfo kTypes[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                               {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1}};

std::string_view header_text(std::span<const std::byte> bytes, std::string_view what) {
  require(bytes.size() >= kPrefix,
          "{} is not a safetensors file: it has {} bytes, the header's length alone takes 8", what,
          bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kPrefix);
  require(length <= kLargestHeader && length <= bytes.size() - kPrefix,
          "{} is damaged: its header claims {} bytes, the file has {} after it", what, length,
          bytes.size() - kPrefix);
  return {reinterpret_cast<const char*>(bytes.data()) + kPrefix, static_cast<size_t>(length)};
}

/// Names and keys must not repeat: the JSON library would silently keep one of them.
Json parse_header(std::string_view text, std::string_view what) {
  const std::string name = std::string(what) + " (header)";
  parse_json(text, name, 8);  // syntax and depth first
  std::vector<std::set<std::string>> seen;
  const Json::parser_callback_t check = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) seen.emplace_back();
    if (event == Json::parse_event_t::object_end) seen.pop_back();
    if (event == Json::parse_event_t::key && !seen.back().insert(parsed.get<std::string>()).second) {
      fail("{} is damaged: '{}' stands twice in the header", what, parsed.get<std::string>().substr(0, 80));
    }
    return true;
  };
  Json header = Json::parse(text, check);
  require(header.is_object(), "{} is damaged: the header must be an object", what);
  return header;
}

std::vector<int64_t> whole_numbers(const Json& json, std::string_view what, const std::string& name) {
  require(json.is_array() && json.size() <= kMostDimensions,
          "{}: {} has a shape or range that is no short list of numbers", what, name);
  std::vector<int64_t> values;
  for (const Json& x : json) {
    require(x.is_number_integer() && (!x.is_number_unsigned() || x.get<uint64_t>() <= INT64_MAX),
            "{}: {} has a size that is no whole number", what, name);
    values.push_back(x.get<int64_t>());
    require(values.back() >= 0, "{}: {} has a negative size", what, name);
  }
  return values;
}

TensorView parse_entry(const std::string& name, const Json& entry, std::span<const std::byte> data,
                       std::string_view what) {
  require(entry.is_object() && entry.contains("dtype") && entry.contains("shape") &&
              entry.contains("data_offsets") && entry["dtype"].is_string(),
          "{}: {} must have dtype, shape and data_offsets", what, name);
  const auto type_name = entry["dtype"].get<std::string>();
  const auto type = parse_data_type(type_name);
  require(type.has_value(), "{}: {} has the type '{}', which is not known", what, name,
          type_name.substr(0, 20));
  TensorView view{
      .name = name, .dtype = *type, .shape = whole_numbers(entry["shape"], what, name), .data = {}};
  const auto range = whole_numbers(entry["data_offsets"], what, name);
  require(range.size() == 2 && range[0] <= range[1] && static_cast<uint64_t>(range[1]) <= data.size(),
          "{}: {} lies outside the file: its range must be within the {} bytes of data", what, name,
          data.size());
  const std::string place = std::string(what) + ": " + name;
  const int64_t size = checked_mul(checked_product(view.shape, place), element_size(*type), place);
  require(size == range[1] - range[0], "{}: {} has {} bytes for a shape that takes {}", what, name,
          range[1] - range[0], size);
  view.data = data.subspan(static_cast<size_t>(range[0]), static_cast<size_t>(size));
  return view;
}

void check_tiling(const std::map<std::string, TensorView>& tensors, std::span<const std::byte> data,
                  std::string_view what) {
  std::vector<const TensorView*> order;
  for (const auto& [name, view] : tensors) order.push_back(&view);
  std::ranges::sort(order, {}, [](const TensorView* v) { return std::pair(v->data.data(), v->data.size()); });
  const std::byte* end = data.data();
  for (const TensorView* v : order) {
    require(v->data.data() == end, "{}: there is a hole or an overlap before {}", what, v->name);
    end += v->data.size();
  }
  require(end == data.data() + data.size(),
          "{}: {} bytes after the last tensor belong to none (the file is damaged)", what,
          data.data() + data.size() - end);
}

std::string make_header(std::span<const TensorView> tensors, const Metadata& metadata) {
  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t begin = 0;
  for (const TensorView& t : tensors) {
    const uint64_t end = begin + t.data.size();
    header[t.name] = {{"dtype", data_type_name(t.dtype)}, {"shape", t.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

int64_t element_size(DataType type) { return kTypes[static_cast<size_t>(type)].size; }
std::string_view data_type_name(DataType type) { return kTypes[static_cast<size_t>(type)].name; }

std::optional<DataType> parse_data_type(std::string_view name) {
  const auto it = std::ranges::find(kTypes, name, &TypeInfo::name);
  if (it == std::end(kTypes)) return std::nullopt;
  return static_cast<DataType>(it - std::begin(kTypes));
}

std::map<std::string, TensorView> parse_safetensors(std::span<const std::byte> bytes, std::string_view what,
                                                    Metadata* metadata) {
  const std::string_view text = header_text(bytes, what);
  const std::span<const std::byte> data = bytes.subspan(kPrefix + text.size());
  std::map<std::string, TensorView> tensors;
  const Json header = parse_header(text, what);
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors.emplace(name, parse_entry(name, entry, data, what));
      continue;
    }
    for (const auto& [key, value] : entry.items()) {
      require(entry.is_object() && value.is_string(), "{}: __metadata__ must map texts to texts", what);
      if (metadata) (*metadata)[key] = value.get<std::string>();
    }
  }
  check_tiling(tensors, data, what);
  return tensors;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), tensors_(parse_safetensors(file_.bytes(), path.string(), &metadata_)) {}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata) {
  const std::string header = make_header(tensors, metadata);
  const uint64_t length = header.size();
  AtomicFile file(path);
  file.write(std::string_view(reinterpret_cast<const char*>(&length), kPrefix));
  file.write(header);
  for (const TensorView& t : tensors) file.write(t.data);
  file.commit();
}

uint64_t safetensors_size(std::span<const TensorView> tensors, const Metadata& metadata) {
  uint64_t size = kPrefix + make_header(tensors, metadata).size();
  for (const TensorView& t : tensors) size += t.data.size();
  return size;
}

}  // namespace gatewright
