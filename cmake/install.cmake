# The C++ library as a CMake package inside the Python package: its sources and nanobind's, which
# the program that uses it compiles (nnx_wrappersConfig.cmake).
include(CMakePackageConfigHelpers)

set(root nnx_wrappers)
install(DIRECTORY include/nnx_wrappers "${CMAKE_CURRENT_BINARY_DIR}/include/nnx_wrappers"
        DESTINATION ${root}/include FILES_MATCHING PATTERN "*.h")
install(DIRECTORY src/py src/upstream src/graph src/bridge DESTINATION ${root}/src
        FILES_MATCHING PATTERN "*.h" PATTERN "*.cc")
install(DIRECTORY "${NB_DIR}/include/nanobind" DESTINATION ${root}/include
        FILES_MATCHING PATTERN "*.h" PATTERN "*.inl")
install(DIRECTORY "${NB_DIR}/src" DESTINATION ${root}/nanobind
        FILES_MATCHING PATTERN "*.h" PATTERN "*.cpp")
install(DIRECTORY "${NB_DIR}/ext" DESTINATION ${root}/nanobind FILES_MATCHING PATTERN "*.h")
configure_file(cmake/nnx_wrappersConfig.cmake.in nnx_wrappersConfig.cmake @ONLY)
write_basic_package_version_file(nnx_wrappersConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/nnx_wrappersConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/nnx_wrappersConfigVersion.cmake" cmake/library.cmake
        DESTINATION ${root}/cmake)
