#include <stdexcept>

#include "head.h"

std::vector<int32_t> RunHead(const char*, const std::vector<char>&, size_t) {
  throw std::runtime_error("built without LiteRT: give SYMBOLS of the head in a file");
}
