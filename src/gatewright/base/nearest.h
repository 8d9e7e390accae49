// The nearest of some names to one that does not exist: for every "did you mean".
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright {

/// Edits (insert, delete, replace, swap of neighbours) between two words; case, '-' and '_' do not count.
int edit_distance(std::string_view a, std::string_view b);

/// The name with the least distance, the first of equals; empty when there are no names.
std::string nearest(std::string_view wanted, std::span<const std::string> names);

/// ", did you mean 'top_k'?" when something is near enough to be meant, else " (there is: a, b, c)", or
/// nothing when there is too much to list.
std::string did_you_mean(std::string_view wanted, std::span<const std::string> names);

}  // namespace gatewright
