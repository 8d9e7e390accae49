// What normalisers ask of Unicode: normal forms, case, categories. Published tokenizers were made with a
// program that asks Unicode 9 for normal forms and for the marks of accents, and Unicode 8 for what BERT's
// normaliser and pre-tokeniser look at; so do these. Case and words are utf8proc's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gatewright {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Whether the text is surely in the form already; fast, and false for some texts that are.
bool surely_normal(NormalForm form, std::string_view text);
/// Appends the text in the form. Bytes that are no UTF-8 and characters that Unicode 9 did not have stay as
/// they are.
void append_normal(NormalForm form, std::string_view text, std::string& out);

/// Appends the lower case of a code point (two for U+0130).
void append_lower(uint32_t code, std::string& out);

// Of a code point; false for kInvalidUtf8.
bool is_space(uint32_t code);            // White_Space
bool is_punctuation(uint32_t code);      // P* in Unicode 8, and the symbols of ASCII
bool is_nonspacing_mark(uint32_t code);  // Mn in Unicode 8
bool is_mark(uint32_t code);             // M* in Unicode 9
bool is_control(uint32_t code);          // Cc, Cf, Co in Unicode 8
bool is_word(uint32_t code);             // letters, marks, decimal numbers, connecting punctuation: \w
bool is_han(uint32_t code);              // the ideographs that BERT sets apart

}  // namespace gatewright
