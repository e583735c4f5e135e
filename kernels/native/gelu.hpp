// GELU in its tanh approximation.
#pragma once

#include <cstddef>

namespace vera {

// values[i] = x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3))), in place: x times (1 + tanh) / 2, written as a logistic.
// The same bits on every machine and with any number of threads.
void gelu_tanh(float* values, std::ptrdiff_t count, int threads);

}  // namespace vera
