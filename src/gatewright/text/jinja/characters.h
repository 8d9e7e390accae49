// Texts as Python sees them: sequences of code points, its white space, upper and lower case. Bytes that are
// no UTF-8 count as one character each.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/jinja/value.h"

namespace gatewright::jinja {

/// Bytes of the character at byte `at`.
size_t character_size(std::string_view text, size_t at);
size_t count_characters(std::string_view text);
/// Bytes before character `index`; the size of the text when there are fewer.
size_t byte_offset(std::string_view text, size_t index);

/// str.isspace of one character.
bool is_space(uint32_t code);
enum class Side { kLeft, kRight, kBoth };
/// str.strip, lstrip, rstrip without an argument.
std::string_view strip(std::string_view text, Side side);
/// Removes the characters that are in `characters`.
std::string_view strip(Heap& heap, std::string_view text, Side side, std::string_view characters);

/// Case mappings of single characters (not those that change a text's length, such as that of sharp s).
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
/// The first character upper, the rest lower.
std::string capitalize(std::string_view text);
/// The first letter of each word upper, the rest lower; a word begins after what is no letter.
std::string title(std::string_view text);
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);
bool is_alpha(std::string_view text);
bool is_digit(std::string_view text);

/// std::string_view::find and rfind under the heap's count of steps.
size_t find_text(Heap& heap, std::string_view text, std::string_view part, size_t from = 0);
size_t rfind_text(Heap& heap, std::string_view text, std::string_view part);

/// str.split: at white space when there is no separator; at most `most` cuts when not negative.
std::vector<std::string_view> split(Heap& heap, std::string_view text, const std::string_view* separator,
                                    int64_t most);
/// The same from the right.
std::vector<std::string_view> split_right(Heap& heap, std::string_view text,
                                          const std::string_view* separator, int64_t most);
/// str.splitlines for line ends \n, \r and \r\n.
std::vector<std::string_view> split_lines(Heap& heap, std::string_view text);
/// str.replace; at most `most` of them when not negative.
std::string_view replace(Heap& heap, std::string_view text, std::string_view old, std::string_view with,
                         int64_t most);

}  // namespace gatewright::jinja
