// A bundle's head in LiteRT.
#ifndef SC_JAX_EXAMPLES_HEAD_H_
#define SC_JAX_EXAMPLES_HEAD_H_

#include <cstdint>
#include <vector>

// The `symbols` of a head of one segment for one image, uint8 [H, W, C]; throws
// std::runtime_error where the file, the image or this build does not allow it.
std::vector<int32_t> RunHead(const char* model, const std::vector<char>& image,
                             size_t count);

#endif
