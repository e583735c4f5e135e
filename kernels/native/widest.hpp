// Wider vectors where the processor has them. Every element is computed by the same operations in the same order, and
// none are fused (CMakeLists.txt), so the bits do not depend on which is taken.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define WIDEST __attribute__((target_clones("avx2", "default")))
#else
#define WIDEST
#endif
