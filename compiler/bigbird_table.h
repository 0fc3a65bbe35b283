// The random key blocks of Hugging Face's BigBird, as its block-sparse attention draws them in training.
#pragma once

#include <cstdint>
#include <vector>

namespace harrier {

/// [heads, nb - 2, random] block numbers, nb = ceil(length / block); row i - 1 belongs to query block i. NumPy's legacy
/// generator is seeded with `seed` (the layer's index in Hugging Face). Empty when nb < 3. Padded lengths of 1024, 3072
/// and 4096 follow the plan of the released models (a table for 4096 tokens, cut to size), all others the plan that
/// depends on the number of blocks.
///
/// Throws InvalidInput where Hugging Face fails: a seed outside [0, 2^32), or a row with fewer legal blocks than
/// `random`. (One legal block alone fills its row: NumPy broadcasts it.)
std::vector<int32_t> draw_bigbird_table(int64_t seed, int64_t length, int64_t block, int64_t heads, int64_t random);

}  // namespace harrier
