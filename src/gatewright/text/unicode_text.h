// What normalisers ask of Unicode: normal forms, case, categories (from utf8proc).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gatewright {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Whether the text is surely in the form already; fast, and false for some texts that are.
bool surely_normal(NormalForm form, std::string_view text);
/// Appends the text in the form. Bytes that are no UTF-8 stay as they are.
void append_normal(NormalForm form, std::string_view text, std::string& out);

/// Appends the lower case of a code point (two for U+0130).
void append_lower(uint32_t code, std::string& out);

// Of a code point; false for kInvalidUtf8.
bool is_space(uint32_t code);            // White_Space
bool is_punctuation(uint32_t code);      // P*, and the symbols of ASCII
bool is_nonspacing_mark(uint32_t code);  // Mn
bool is_mark(uint32_t code);             // M*
bool is_control(uint32_t code);          // Cc, Cf, Cs, Co
bool is_word(uint32_t code);             // letters, marks, decimal numbers, connecting punctuation: \w
bool is_han(uint32_t code);              // the ideographs that BERT sets apart

}  // namespace gatewright
