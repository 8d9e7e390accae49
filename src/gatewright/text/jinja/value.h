// Values of a template while it is rendered, by Python's rules (truth, equality, order, str and repr). They
// own nothing: texts, lists and mappings live in the template, in its input or in the heap of the rendering,
// all of which end together, so that a list that holds itself leaks nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gatewright/text/text_range.h"

namespace gatewright::jinja {

struct List;
struct Mapping;
struct Function;

/// What a name, key or index gives that is not there; `name` is what was asked for.
struct Undefined {
  std::string_view name;
};
struct None {};

using Value =
    std::variant<Undefined, None, bool, int64_t, double, std::string_view, List*, Mapping*, Function*>;

struct List {
  std::vector<Value> items;
  bool tuple = false;  // prints with parentheses
};

/// Keys are texts, numbers, booleans or none, in the order in which they came; as in Python 1, 1.0 and true
/// are one key.
struct Mapping {
  using Entry = std::pair<Value, Value>;

  std::vector<Entry> entries;
  bool is_namespace = false;  // attributes only: namespace() and loop

  /// Null where it is not there, as every other value is not.
  const Value* find(const Value& key) const;
  void set(const Value& key, const Value& value);
};

struct Macro;

/// Something that can be called: a macro, a method bound to its object, or a function of the environment.
struct Function {
  std::string_view name;
  const Macro* macro = nullptr;
  std::optional<Value> object = {};
};

/// What one rendering may use.
struct Limits {
  uint64_t steps = 10'000'000;           // evaluations, and elements or some ten bytes that functions look at
  uint64_t bytes = uint64_t{256} << 20;  // of all texts and lists that are made
  uint64_t output_bytes = uint64_t{32} << 20;  // that are written, into captured texts, too
  int depth = 200;                             // of expressions, blocks, calls and nested values
};

/// A text and which parts of it came from strangers, in order and apart from each other.
struct MarkedText {
  std::string text;
  std::vector<TextRange> marks;
};

/// Owns what a rendering makes and counts what it uses; beyond a limit it fails. It knows of every text which
/// bytes came from texts that were marked, by where they lie: texts that are made carry their marks along,
/// and parts of texts are views of them.
class Heap {
 public:
  explicit Heap(const Limits& limits) : limits_(limits) {}

  void step(uint64_t count = 1);
  /// Before `bytes` are allocated.
  void claim(uint64_t bytes);
  void claim_output(uint64_t bytes);
  /// Claims the text and keeps it; it was made of `from`.
  std::string_view keep(std::string text, std::string_view from);
  /// Keeps a text whose bytes were claimed already.
  std::string_view adopt(MarkedText text);

  /// Marks a text that lives as long as the rendering and has no marks yet.
  void mark(std::string_view text);
  /// Appends `part`, which lies in a text of the rendering or nowhere in it, with its marks.
  void append(MarkedText& text, std::string_view part);
  /// Appends what was made of `from`: marked as a whole where a part of that is.
  void append_made(MarkedText& text, std::string_view made, std::string_view from);
  List* make_list(std::vector<Value> items = {}, bool tuple = false);
  Mapping* make_mapping();
  Function* make_function(Function function);

  /// One level deeper while it lives.
  class Deeper {
   public:
    explicit Deeper(Heap& heap);
    ~Deeper() { --heap_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Heap& heap_;
  };

 private:
  /// Calls part(range) for the marked parts of `text`, counted from its begin.
  template <typename Part>
  void for_marks(std::string_view text, const Part& part) const;
  void add_mark(MarkedText& text, TextRange range);

  Limits limits_;
  uint64_t steps_ = 0, bytes_ = 0, output_bytes_ = 0;
  int depth_ = 0;
  std::deque<std::string> texts_;
  std::deque<List> lists_;
  std::deque<Mapping> mappings_;
  std::deque<Function> functions_;
  std::map<const char*, const char*, std::less<>> marked_;  // begin and end, apart from each other
};

/// A text that grows under the heap's limits.
class TextBuilder {
 public:
  explicit TextBuilder(Heap& heap) : heap_(heap) {}
  void add(std::string_view part) {
    heap_.claim(part.size());
    heap_.append(text_, part);
  }
  /// What stands for `from`, where the bytes are others.
  void add_made(std::string_view made, std::string_view from) {
    heap_.claim(made.size());
    heap_.append_made(text_, made, from);
  }
  std::string_view finish() { return heap_.adopt(std::move(text_)); }

 private:
  Heap& heap_;
  MarkedText text_;
};

template <typename T>
const T* as(const Value& value) {
  return std::get_if<T>(&value);
}
inline bool is_undefined(const Value& value) { return std::holds_alternative<Undefined>(value); }
inline bool is_none(const Value& value) { return std::holds_alternative<None>(value); }

/// An integer; true and false are 1 and 0, as in Python.
std::optional<int64_t> integer_of(const Value& value);
/// Any number.
std::optional<double> number_of(const Value& value);
/// "text", "list", "mapping", ... for messages.
std::string_view kind_name(const Value& value);
/// Fails when the value is undefined, with its name.
void require_defined(const Value& value);

bool is_true(const Value& value);
bool equal(Heap& heap, const Value& a, const Value& b);
/// a < b; of two numbers, two texts (by code points) or two lists. Others fail.
bool less(Heap& heap, const Value& a, const Value& b);

/// str(value); undefined is empty. Functions fail.
std::string_view to_text(Heap& heap, const Value& value);
/// repr of a float: the shortest digits that give it back.
std::string float_text(double value);

/// The elements of a list, the keys of a mapping, the characters of a text, nothing of undefined. Others
/// fail.
const std::vector<Value>& elements(Heap& heap, const Value& value);
/// Fails when the value can't be a key of a mapping.
void require_key(const Value& value);
/// x in container.
bool contains(Heap& heap, const Value& container, const Value& x);

}  // namespace gatewright::jinja
