# CMake's toolchain file for the board android-arm64: cmake -DCMAKE_TOOLCHAIN_FILE=android-arm64.cmake
# It hands over to the NDK's own, r23 or later.
if(NOT DEFINED ENV{ANDROID_NDK_HOME})
    message(FATAL_ERROR "set ANDROID_NDK_HOME to the folder of the Android NDK")
endif()
set(ANDROID_ABI arm64-v8a)
set(ANDROID_PLATFORM android-24)
include($ENV{ANDROID_NDK_HOME}/build/cmake/android.toolchain.cmake)
