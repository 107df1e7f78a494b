# Makes llama-cpp-python compile in 75 s of two cores in place of 185, and survive CPUs with AMX. To be used as
#
#   CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$PWD/.ci/llama_cpp.cmake" pip install llama-cpp-python
#
# It is included right after llama.cpp's project(), where a plain variable wins over the option that follows.

# The library of llama.cpp's own programs: more than half of the compile time, and nothing in Python uses it.
set(LLAMA_BUILD_COMMON OFF)

# GCC up to 12 declares 8 of the 64 bytes that ldtilecfg reads, and so drops the stores to the others: the first
# quantized matrix with more than one row then ends the process.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    set(amx_fix "${CMAKE_BINARY_DIR}/amx_fix.h")
    file(WRITE "${amx_fix}" [[
#if defined(__cplusplus) && defined(__AMX_TILE__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(p) __asm__ volatile("ldtilecfg %0" :: "m"(*(const char (*)[64])(p)))
#endif
]])
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-include${amx_fix}>")
endif()
